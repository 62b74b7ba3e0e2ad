// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! A vCPU and a page table that do not exist.
//!
//! A type without values: none of these functions can ever be called.

use axaddrspace::{AddrSpaceResult, NestedPageTableOps, PageSize};
use axdevice::AxVmDevices;
use axvm::{
    AxArchVCpu, AxVCpuExitReason, Error, GuestAccess, GuestPhysAddr, HostPhysAddr, HostVirtAddr,
    MappingFlags, Result,
};

/// What is not there.
pub enum Nothing {}

impl AxArchVCpu for Nothing {
    type CreateConfig = ();
    type SetupConfig = ();

    fn new((): ()) -> Result<Self> {
        Err(Error::Unsupported(super::NO_VMS))
    }

    fn set_entry(&mut self, _entry: GuestPhysAddr) -> Result<()> {
        match *self {}
    }

    fn set_ept_root(&mut self, _root: HostPhysAddr) -> Result<()> {
        match *self {}
    }

    fn setup(&mut self, (): ()) -> Result<()> {
        match *self {}
    }

    fn devices(&self) -> &AxVmDevices {
        match *self {}
    }

    fn run(&mut self) -> Result<AxVCpuExitReason> {
        match *self {}
    }

    fn bind(&mut self) -> Result<()> {
        match *self {}
    }

    fn unbind(&mut self) -> Result<()> {
        match *self {}
    }

    fn set_gpr(&mut self, _reg: usize, _value: u64) {
        match *self {}
    }

    fn inject_interrupt(&mut self, _vector: u64) -> Result<()> {
        match *self {}
    }

    fn set_return_value(&mut self, _value: u64) {
        match *self {}
    }

    fn refuse_access(&mut self, _access: GuestAccess) {
        match *self {}
    }

    fn guest_pc(&self) -> u64 {
        match *self {}
    }

    fn next_timer_ns(&self) -> Option<u64> {
        match *self {}
    }

    fn dump(&self, _out: &mut dyn core::fmt::Write) -> core::fmt::Result {
        match *self {}
    }
}

impl NestedPageTableOps for Nothing {
    fn root_paddr(&self) -> HostPhysAddr {
        match *self {}
    }

    fn levels(&self) -> usize {
        match *self {}
    }

    fn alloc_frame(&self) -> Option<HostPhysAddr> {
        match *self {}
    }

    fn dealloc_frame(&self, _frame: HostPhysAddr) {
        match *self {}
    }

    fn phys_to_virt(&self, _address: HostPhysAddr) -> HostVirtAddr {
        match *self {}
    }

    fn map(
        &mut self,
        _from: GuestPhysAddr,
        _to: HostPhysAddr,
        _size: PageSize,
        _flags: MappingFlags,
    ) -> AddrSpaceResult {
        match *self {}
    }

    fn unmap(
        &mut self,
        _from: GuestPhysAddr,
    ) -> AddrSpaceResult<(HostPhysAddr, MappingFlags, PageSize)> {
        match *self {}
    }

    fn map_linear(
        &mut self,
        _from: GuestPhysAddr,
        _to: HostPhysAddr,
        _size_bytes: usize,
        _flags: MappingFlags,
        _allow_huge: bool,
    ) -> AddrSpaceResult {
        match *self {}
    }

    fn unmap_region(&mut self, _start: GuestPhysAddr, _size_bytes: usize) -> AddrSpaceResult {
        match *self {}
    }

    fn remap(&mut self, _from: GuestPhysAddr, _to: HostPhysAddr, _flags: MappingFlags) -> bool {
        match *self {}
    }

    fn protect_region(
        &mut self,
        _start: GuestPhysAddr,
        _size_bytes: usize,
        _flags: MappingFlags,
    ) -> bool {
        match *self {}
    }

    fn query(
        &self,
        _from: GuestPhysAddr,
    ) -> AddrSpaceResult<(HostPhysAddr, MappingFlags, PageSize)> {
        match *self {}
    }
}
