// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The interrupt controllers and timers of a PC, as values.
//!
//! Local APIC, I/O APIC, 8259 pair, 8254 and HPET: each is a function of the
//! registers that a guest wrote and of a time that is handed in. Nothing here
//! knows a VMCB, a VMCS, a lock or another vCPU; `vm` wires them together.
