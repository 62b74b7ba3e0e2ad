// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! How interrupts travel: wires to the 8259 pair and the I/O APIC, messages to
//! the local APICs, and from there a look of the vCPU.
//!
//! Shared by all vCPUs and devices of a VM. Lock order: a device, then the pair or
//! the I/O APIC; local APICs take messages without a lock. The pair's output is
//! the boot CPU's alone, as on every PC.
//!
//! Spec: Intel MP Specification 1.4, "Interrupt Modes"; Intel SDM 3, "Determining
//! IPI Destination"; QEMU, hw/i386/x86.c (input 0 of the pair is pin 2).

use alloc::{sync::Arc, vec::Vec};
use core::sync::atomic::{AtomicBool, Ordering::SeqCst};

use axdevice::{AccessFault, AccessWidth, IoDevice, IrqSink, Lock};
use axvm::{AxVMHal, CpuPower, Request, VCpuControl, VCpuId};

use crate::irqchip::{
    i8259::{PicPair, Port},
    ioapic::IoApic,
    lapic::{Inbox, Lint0, reaches_disabled},
    message::{Delivery, Message, Trigger},
};

const BOOT_CPU: VCpuId = 0;
/// The timer's wire, and the pin that it has at the I/O APIC.
const TIMER_INPUT: u32 = 0;
const TIMER_PIN: usize = 2;

/// One vCPU as messages reach it.
struct Cpu<H: AxVMHal> {
    inbox: Arc<Inbox>,
    control: Arc<VCpuControl<H>>,
}

/// The interrupt controllers of a VM but for the local APICs' own part.
pub(crate) struct Fabric<H: AxVMHal> {
    cpus: Vec<Cpu<H>>,
    pair: Lock<PicPair>,
    /// The pair's output.
    is_raised: AtomicBool,
    io_apic: Lock<IoApic>,
}

/// The vCPUs that a message has to switch on, bit by bit.
pub(crate) type Starts = u64;

impl<H: AxVMHal> Fabric<H> {
    /// Connects the local APICs, in the order of their vCPUs.
    pub(crate) fn new(inboxes: &[Arc<Inbox>], controls: &[Arc<VCpuControl<H>>]) -> Self {
        let cpus = inboxes.iter().zip(controls).map(|(inbox, control)| Cpu {
            inbox: inbox.clone(),
            control: control.clone(),
        });
        Self {
            cpus: cpus.collect(),
            pair: Lock::new(PicPair::new()),
            is_raised: AtomicBool::new(false),
            io_apic: Lock::new(IoApic::new()),
        }
    }

    /// Delivers a message; returns which vCPUs it found switched off and starts.
    pub(crate) fn send(&self, message: Message, sender: Option<u32>) -> Starts {
        let addressed = || {
            let reaches = reaches_disabled(message.delivery);
            self.cpus.iter().filter(move |cpu| {
                cpu.inbox.is_addressed(message.destination, sender)
                    && (reaches || cpu.inbox.is_enabled())
            })
        };
        match message.delivery {
            Delivery::LowestPriority => {
                if let Some(cpu) = addressed().min_by_key(|cpu| cpu.inbox.task_priority()) {
                    cpu.take(message);
                }
                0
            }
            _ => addressed().fold(0, |starts, cpu| starts | cpu.take(message)),
        }
    }

    /// Delivers a message of the I/O APIC, and tells whether anybody is there.
    fn forward(&self, message: Message) -> bool {
        let is_there = self.cpus.iter().any(|cpu| {
            cpu.inbox.is_addressed(message.destination, None)
                && (reaches_disabled(message.delivery) || cpu.inbox.is_enabled())
        });
        self.send(message, None);
        is_there
    }

    /// Takes the end of a level-triggered interrupt.
    pub(crate) fn end(&self, vector: u8) {
        let mut send = |message| self.forward(message);
        self.io_apic.lock().end(vector, &mut send);
    }

    /// Makes vector pending at a vCPU.
    pub(crate) fn inject(&self, vcpu: VCpuId, vector: u8) {
        if let Some(cpu) = self.cpus.get(vcpu)
            && cpu.inbox.post(vector, Trigger::Edge)
        {
            cpu.control.request(Request::Event);
        }
    }

    /// Tells whether the pair has something for a vCPU.
    #[inline]
    pub(crate) fn has_external(&self, vcpu: VCpuId) -> bool {
        vcpu == BOOT_CPU
            && self.is_raised.load(SeqCst)
            && self
                .cpus
                .first()
                .is_some_and(|cpu| cpu.inbox.lint0() == Lint0::External)
    }

    /// Takes the pair's interrupt.
    pub(crate) fn acknowledge_external(&self) -> u8 {
        self.change_pair(PicPair::acknowledge)
    }

    /// Changes the pair, and shows the boot CPU what follows.
    fn change_pair<T>(&self, change: impl FnOnce(&mut PicPair) -> T) -> T {
        let mut pair = self.pair.lock();
        let result = change(&mut pair);
        let is_raised = pair.is_raised();
        let was_raised = self.is_raised.swap(is_raised, SeqCst);
        drop(pair);
        if is_raised && let Some(boot) = self.cpus.first() {
            boot.take_external(!was_raised);
        }
        result
    }
}

impl<H: AxVMHal> Cpu<H> {
    /// Takes a message, and tells which vCPU has to be switched on for it.
    fn take(&self, message: Message) -> Starts {
        let must_look = match message.delivery {
            Delivery::Fixed | Delivery::LowestPriority => {
                self.inbox.post(message.vector, message.trigger)
            }
            Delivery::Nmi => self.inbox.send_nmi(),
            Delivery::Init => self.inbox.send_init(),
            Delivery::Startup => self.inbox.send_startup(message.vector),
        };
        if must_look {
            self.control.request(Request::Event);
        }
        let is_off = self.control.power() == CpuPower::Off;
        match message.delivery == Delivery::Startup && is_off {
            true => 1_u64.wrapping_shl(self.control.id() as u32),
            false => 0,
        }
    }

    /// Takes the pair's output, which is high, and new if it is an edge.
    fn take_external(&self, is_edge: bool) {
        let must_look = match self.inbox.lint0() {
            Lint0::External => true,
            Lint0::Fixed(vector) if is_edge => self.inbox.post(vector, Trigger::Edge),
            Lint0::Nmi if is_edge => self.inbox.send_nmi(),
            _ => false,
        };
        if must_look {
            self.control.request(Request::Event);
        }
    }
}

impl<H: AxVMHal> IrqSink for Fabric<H> {
    fn set_level(&self, irq: u32, level: bool) {
        self.change_pair(|pair| pair.set_level(irq, level));
        let pin = match irq {
            TIMER_INPUT => TIMER_PIN,
            irq => irq as usize,
        };
        let mut send = |message| self.forward(message);
        self.io_apic.lock().set_level(pin, level, &mut send);
    }
}

/// The ports of one chip of the pair, or of the trigger registers.
pub(crate) struct PairPorts<H: AxVMHal> {
    fabric: Arc<Fabric<H>>,
    ports: [Port; 2],
}

impl<H: AxVMHal> PairPorts<H> {
    pub(crate) const MASTER: [Port; 2] = [Port::MasterCommand, Port::MasterData];
    pub(crate) const SLAVE: [Port; 2] = [Port::SlaveCommand, Port::SlaveData];
    pub(crate) const TRIGGER: [Port; 2] = [Port::MasterElcr, Port::SlaveElcr];

    /// Makes two ports.
    pub(crate) fn new(fabric: Arc<Fabric<H>>, ports: [Port; 2]) -> Self {
        Self { fabric, ports }
    }

    fn port(&self, offset: u64) -> Result<Port, AccessFault> {
        let port = self.ports.get(offset as usize);
        port.copied().ok_or(AccessFault)
    }
}

impl<H: AxVMHal> IoDevice for PairPorts<H> {
    fn read(&mut self, offset: u64, _: AccessWidth) -> Result<u64, AccessFault> {
        let port = self.port(offset)?;
        Ok(self.fabric.change_pair(|pair| pair.read(port)).into())
    }

    fn write(&mut self, offset: u64, _: AccessWidth, value: u64) -> Result<(), AccessFault> {
        let port = self.port(offset)?;
        self.fabric
            .change_pair(|pair| pair.write(port, value as u8));
        Ok(())
    }
}

/// The page of the I/O APIC.
pub(crate) struct IoApicPage<H: AxVMHal>(pub(crate) Arc<Fabric<H>>);

impl<H: AxVMHal> IoDevice for IoApicPage<H> {
    fn read(&mut self, offset: u64, width: AccessWidth) -> Result<u64, AccessFault> {
        Ok(self.0.io_apic.lock().read(offset, width))
    }

    fn write(&mut self, offset: u64, width: AccessWidth, value: u64) -> Result<(), AccessFault> {
        let fabric = &self.0;
        let mut send = |message| fabric.forward(message);
        let mut io_apic = fabric.io_apic.lock();
        io_apic.write(offset, width, value, &mut send);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use arch_vm_host::testing::StdHost;

    use super::*;
    use crate::{
        irqchip::{
            lapic::{LocalApic, Time},
            message::Destination,
        },
        testing::host,
    };

    const DWORD: AccessWidth = AccessWidth::Dword;
    const SPURIOUS: u64 = 0xf0;
    const VECTOR: u8 = 0x71;

    /// No timer is used here.
    struct NoTime;

    impl Time for NoTime {
        fn now_ns(&self) -> u64 {
            0
        }

        fn tsc(&self) -> u64 {
            0
        }

        fn ns_at_tsc(&self, _: u64) -> u64 {
            0
        }
    }

    /// Three vCPUs, of which the first is on, with their local APICs enabled.
    struct Bench {
        apics: Vec<LocalApic<StdHost>>,
        fabric: Fabric<StdHost>,
    }

    impl Bench {
        fn new() -> Self {
            let host = host();
            let apic = |id| LocalApic::new(&host, id).unwrap();
            let mut apics: Vec<_> = (0..3).map(apic).collect();
            for apic in &mut apics {
                let _ = apic.write_page(SPURIOUS, DWORD, 0x1ff, &NoTime);
            }
            let inboxes: Vec<_> = apics.iter().map(|apic| apic.inbox().clone()).collect();
            let controls: Vec<_> = (0..apics.len())
                .map(|id| Arc::new(VCpuControl::new(&host, 1, id)))
                .collect();
            let fabric = Fabric::new(&inboxes, &controls);
            Self { apics, fabric }
        }

        fn send(&self, delivery: Delivery, destination: Destination) -> Starts {
            let message = Message {
                destination,
                delivery,
                vector: VECTOR,
                trigger: Trigger::Edge,
            };
            self.fabric.send(message, Some(0))
        }

        /// Tells which vCPUs have the vector pending, and forgets it.
        fn taken(&mut self) -> Vec<usize> {
            let mut has = |id: usize| {
                let apic = &mut self.apics[id];
                let vector = apic.next();
                vector.inspect(|vector| apic.acknowledge(*vector)).is_some()
            };
            (0..3).filter(|id| has(*id)).collect()
        }
    }

    #[test]
    fn of_all_that_are_named_the_one_of_the_lowest_priority_takes_it() {
        let mut bench = Bench::new();
        for (apic, priority) in bench.apics.iter_mut().zip([0x50, 0x20, 0x30]) {
            apic.set_task_priority(priority);
        }
        bench.send(Delivery::LowestPriority, Destination::All);
        assert_eq!(bench.taken(), [1]);
        // Whoever is switched off by its software is not there.
        let _ = bench.apics[1].write_page(SPURIOUS, DWORD, 0xff, &NoTime);
        bench.send(Delivery::LowestPriority, Destination::All);
        assert_eq!(bench.taken(), [2]);
        bench.send(Delivery::Fixed, Destination::All);
        assert_eq!(bench.taken(), [0]);
    }

    #[test]
    fn a_startup_switches_on_who_is_off_and_an_nmi_reaches_the_disabled() {
        let mut bench = Bench::new();
        assert_eq!(bench.send(Delivery::Init, Destination::Others), 0);
        assert_eq!(
            bench.send(Delivery::Startup, Destination::Physical(2)),
            0b100
        );
        assert_eq!(bench.send(Delivery::Startup, Destination::All), 0b110);
        let _ = bench.apics[1].write_page(SPURIOUS, DWORD, 0xff, &NoTime);
        bench.send(Delivery::Nmi, Destination::Others);
        let nmis = |apic: &mut LocalApic<StdHost>| apic.take_signals().is_some_and(|it| it.nmi);
        let found: Vec<_> = bench.apics.iter_mut().map(nmis).collect();
        assert_eq!(found, [false, true, true]);
    }

    #[test]
    fn the_timers_wire_goes_to_input_0_of_the_pair_and_to_pin_2() {
        let mut bench = Bench::new();
        let fabric = Arc::new(bench.fabric);
        let mut pins = IoApicPage(fabric.clone());
        // Pin 2 is an edge for the last CPU.
        for (register, value) in [(0x15, 2 << 24), (0x14, u64::from(VECTOR))] {
            pins.write(0, DWORD, register).unwrap();
            pins.write(0x10, DWORD, value).unwrap();
        }
        let mut master = PairPorts::new(fabric.clone(), PairPorts::<StdHost>::MASTER);
        for (port, value) in [(0, 0x11), (1, 0x20), (1, 4), (1, 1)] {
            master.write(port, AccessWidth::Byte, value).unwrap();
        }
        fabric.set_level(TIMER_INPUT, true);
        assert!(fabric.has_external(0) && !fabric.has_external(1));
        assert_eq!(fabric.acknowledge_external(), 0x20);
        assert!(!fabric.has_external(0));
        assert_eq!(bench.apics[2].next(), Some(VECTOR));
        assert_eq!(bench.apics[1].next(), None);
    }
}
