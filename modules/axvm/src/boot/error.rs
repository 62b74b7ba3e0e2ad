// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Why a VM's images cannot be booted.
//!
//! Each variant carries the values that are wrong, and its text says what would
//! be right, so that the console can show it as it is to the VM file's author.

use axvm_types::GuestPhysAddr;

/// The formats that are recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageFormat {
    /// ELF.
    Elf,
    /// Linux's `Image` for riscv.
    LinuxRiscv,
    /// Linux's `Image` for arm64.
    LinuxArm64,
    /// Linux's `bzImage` for x86.
    BzImage,
    /// A multiboot 1 kernel with load addresses in its header.
    Multiboot,
    /// No format: bytes that run where they are put.
    Flat,
}

impl core::fmt::Display for ImageFormat {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Elf => "an ELF",
            Self::LinuxRiscv => "a Linux Image for riscv",
            Self::LinuxArm64 => "a Linux Image for arm64",
            Self::BzImage => "a Linux bzImage for x86",
            Self::Multiboot => "a multiboot kernel",
            Self::Flat => "a flat binary",
        })
    }
}

/// Files that are known and no kernel; the text ends with the remedy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Foreign {
    /// gzip.
    #[error("compressed with gzip; unpack it: gunzip < FILE > Image")]
    Gzip,
    /// zstd.
    #[error("compressed with zstd; unpack it: zstd -d FILE -o Image")]
    Zstd,
    /// xz.
    #[error("compressed with xz; unpack it: xz -dc FILE > Image")]
    Xz,
    /// bzip2.
    #[error("compressed with bzip2; unpack it: bzip2 -dc FILE > Image")]
    Bzip2,
    /// lz4, its frame and its legacy format.
    #[error("compressed with lz4; unpack it: lz4 -dc FILE > Image")]
    Lz4,
    /// An EFI application with a compressed kernel inside.
    #[error("an EFI zboot image, compressed inside; use the uncompressed arch/*/boot/Image")]
    EfiZboot,
    /// Another EFI application.
    #[error("an EFI application, which needs UEFI firmware; use a kernel's own image")]
    Efi,
    /// U-Boot's legacy container.
    #[error("a U-Boot uImage; use the kernel that was packed into it")]
    UImage,
    /// A flattened device tree, or a FIT image.
    #[error("a device tree; name it in boot.dtb, and a kernel in boot.kernel")]
    DeviceTree,
    /// A cpio archive.
    #[error("a cpio archive; name it in boot.initrd, and a kernel in boot.kernel")]
    Cpio,
    /// A disk image.
    #[error("a qcow2 disk image; name it in a [[device]], and a kernel in boot.kernel")]
    Qcow2,
    /// Nothing but zeros.
    #[error("nothing but zeros; was it copied completely?")]
    Blank,
}

/// What is wrong with a device tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FdtFault {
    /// The magic number is not there.
    #[error("it does not begin with 0xd00dfeed; is it a compiled .dtb?")]
    Magic,
    /// A version that is not 17.
    #[error("its version is {0}; compile it with dtc, which writes 17")]
    Version(u32),
    /// The header's size is not the file's.
    #[error("its header says {stated_bytes} bytes, the file has {file_bytes}; copy it again")]
    Length {
        /// What the header says.
        stated_bytes: u64,
        /// What there is.
        file_bytes: u64,
    },
    /// The blocks or tokens are damaged.
    #[error("its structure is damaged; dtc -I dtb -O dts shows where")]
    Structure,
    /// A name is not allowed.
    #[error("a node's or property's name is against the specification or over 31 characters")]
    Name,
    /// Nodes that are nested too deeply.
    #[error("its nodes are nested deeper than 64")]
    Depth,
    /// A memory reservation that is empty, wraps or overlaps another.
    #[error("a memory reservation is empty, wraps or overlaps another")]
    Reservation,
    /// A phandle that two nodes have.
    #[error("two nodes have the same phandle")]
    Phandle,
    /// A string with a NUL inside.
    #[error("a string has a NUL byte inside")]
    Nul,
    /// More than 32 bits can count.
    #[error("it exceeds what its format can count")]
    Count,
    /// Nodes or properties in an impossible order: a mistake of the machine's writer.
    #[error("nodes and properties were written out of order")]
    Order,
}

/// Why an image cannot be booted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// The image is empty.
    #[error("the image is empty")]
    Empty,
    /// The file is known, and no kernel.
    #[error("this is no kernel but {0}")]
    Foreign(Foreign),
    /// The file ends too early.
    #[error("{format} that needs {needed_bytes:#x} bytes has {file_bytes:#x}; copy it again")]
    Truncated {
        /// What it is.
        format: ImageFormat,
        /// How many bytes its header promises.
        needed_bytes: u64,
        /// How many there are.
        file_bytes: u64,
    },
    /// The ELF's headers contradict themselves.
    #[error("the ELF's headers are damaged; link it again")]
    ElfDamaged,
    /// The ELF is of the other endianness.
    #[error("the ELF is big-endian; build it for a little-endian target")]
    ElfBigEndian,
    /// The ELF is a relocatable object or a core dump.
    #[error("the ELF's type is {0}, not 2 (executable) or 3 (position-independent); link it")]
    ElfType(u16),
    /// The ELF has nothing to load.
    #[error("the ELF has no segment to load; link it with program headers")]
    ElfEmpty,
    /// The ELF says nothing about how a PC enters it.
    #[error("the ELF has neither a multiboot header nor a PVH note; link it with one")]
    ElfNoPcEntry,
    /// The ELF has more segments than any kernel needs.
    #[error("the ELF has more than {max} segments to load; link it with fewer")]
    ElfSegments {
        /// How many are allowed.
        max: usize,
    },
    /// A segment has more bytes in the file than in memory.
    #[error("ELF segment {index} has {file_bytes:#x} bytes for {memory_bytes:#x} of memory")]
    SegmentSize {
        /// Which program header.
        index: usize,
        /// Its `p_filesz`.
        file_bytes: u64,
        /// Its `p_memsz`.
        memory_bytes: u64,
    },
    /// A segment whose end lies beyond the last address.
    #[error("ELF segment {index} at {start:#x} with {memory_bytes:#x} bytes wraps around")]
    SegmentWraps {
        /// Which program header.
        index: usize,
        /// Its address.
        start: u64,
        /// Its `p_memsz`.
        memory_bytes: u64,
    },
    /// Two segments that share memory.
    #[error("ELF segments at {first:#x} and {second:#x} overlap in physical memory")]
    SegmentsOverlap {
        /// The lower one's address.
        first: u64,
        /// The higher one's address.
        second: u64,
    },
    /// A big-endian Linux.
    #[error("the Linux Image is big-endian; build it with CONFIG_CPU_LITTLE_ENDIAN")]
    LinuxBigEndian,
    /// A Linux Image whose stated size is less than its file.
    #[error("the Linux Image says it needs {image_bytes:#x} bytes but has {file_bytes:#x}")]
    LinuxSize {
        /// Its `image_size`.
        image_bytes: u64,
        /// Its length.
        file_bytes: u64,
    },
    /// A bzImage of a protocol without the fields that say where it runs.
    #[error("the bzImage speaks boot protocol {0:#x}; 0x20a (Linux 2.6.31) or later is needed")]
    BzImageOld(u16),
    /// A bzImage that runs below 1 MiB.
    #[error("the bzImage (a zImage) runs below 1 MiB; build a bzImage")]
    BzImageLow,
    /// A bzImage with an alignment that is no power of two.
    #[error("the bzImage asks for an alignment of {0:#x}, which is no power of two")]
    BzImageAlignment(u32),
    /// A multiboot header whose addresses contradict each other.
    #[error(
        "the multiboot header loads {load:#x} to {load_end:#x}, zeroes to {bss_end:#x}, and lies at {header:#x}"
    )]
    MultibootAddresses {
        /// Its `header_addr`.
        header: u32,
        /// Its `load_addr`.
        load: u32,
        /// Its `load_end_addr`.
        load_end: u32,
        /// Its `bss_end_addr`.
        bss_end: u32,
    },
    /// A multiboot header that demands what is not known.
    #[error("the multiboot header requires feature bits {0:#x}, which are not known")]
    MultibootFeatures(u32),
    /// An ELF for another architecture.
    #[error("the ELF is for machine {found}, this one is {expected}; build it for this target")]
    WrongMachine {
        /// Its `e_machine`.
        found: u16,
        /// What the machine runs.
        expected: u16,
    },
    /// A format that this machine does not boot.
    #[error("this machine does not boot {0}; build the kernel for this architecture")]
    WrongFormat(ImageFormat),
    /// The kernel does not fit into the RAM behind its address.
    #[error(
        "the kernel needs {size_bytes:#x} bytes at {start:#x}, where RAM has {room_bytes:#x}; give vm.memory more"
    )]
    KernelTooLarge {
        /// Where it starts.
        start: GuestPhysAddr,
        /// What it needs.
        size_bytes: u64,
        /// What there is.
        room_bytes: u64,
    },
    /// The kernel's address is not in RAM.
    #[error(
        "the kernel is to be loaded at {start:#x} ({size_bytes:#x} bytes), which is not in RAM; link it elsewhere, or set boot.load"
    )]
    LoadOutsideRam {
        /// Where it starts.
        start: u64,
        /// What it needs.
        size_bytes: u64,
    },
    /// The kernel's memory is used by the machine itself, or twice.
    #[error("the kernel's {size_bytes:#x} bytes at {start:#x} meet memory that the machine keeps")]
    LoadReserved {
        /// Where it starts.
        start: GuestPhysAddr,
        /// What it needs.
        size_bytes: u64,
    },
    /// The kernel's address does not have the alignment that its format asks for.
    #[error(
        "boot.load is {start:#x}; this kernel must start at {offset:#x} after a multiple of {align:#x}"
    )]
    LoadMisaligned {
        /// Where it was to be loaded.
        start: u64,
        /// The alignment.
        align: u64,
        /// The offset to it.
        offset: u64,
    },
    /// The entry point is not in RAM.
    #[error("the kernel's entry {0:#x} is not in RAM; set boot.entry, or link it again")]
    EntryOutsideRam(u64),
    /// The initial RAM disk does not fit beside the kernel.
    #[error(
        "the initrd of {size_bytes:#x} bytes does not fit: {room_bytes:#x} are free in one piece; give vm.memory more"
    )]
    InitrdTooLarge {
        /// Its length.
        size_bytes: u64,
        /// The largest free piece.
        room_bytes: u64,
    },
    /// There is no room for the device tree.
    #[error("no {size_bytes:#x} bytes are free for the device tree; give vm.memory more")]
    NoRoomForFdt {
        /// What it needs.
        size_bytes: u64,
    },
    /// The device tree is larger than its room.
    #[error("the device tree needs {size_bytes:#x} bytes, {max_bytes:#x} are allowed")]
    FdtTooLarge {
        /// What it needs.
        size_bytes: u64,
        /// What is allowed.
        max_bytes: u64,
    },
    /// The machine is not described by a device tree.
    #[error("this machine has no device tree; remove boot.dtb")]
    FdtUnknown,
    /// The device tree given in the VM's file is damaged.
    #[error("boot.dtb cannot be used: {0}")]
    FdtGiven(FdtFault),
    /// The machine's own device tree cannot be written.
    #[error("the machine's device tree cannot be written: {0}")]
    FdtWritten(FdtFault),
    /// The command line is too long.
    #[error("boot.cmdline has {size_bytes} bytes, {max_bytes} are allowed")]
    CmdlineTooLong {
        /// Its length.
        size_bytes: usize,
        /// What is allowed.
        max_bytes: usize,
    },
    /// The command line has a NUL inside.
    #[error("boot.cmdline has a NUL byte inside")]
    CmdlineNul,
}
