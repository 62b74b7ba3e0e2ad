// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Serial ports: a VM's [`Console`](crate::Console) as UARTs that guests have drivers for.

mod pl011;
mod uart16550;

pub use pl011::Pl011;
pub use uart16550::Uart16550;
