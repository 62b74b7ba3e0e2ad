// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! IPI: software interrupts between harts.
//!
//! Spec: SBI, "IPI Extension (EID #0x735049 \"sPI: s-mode IPI\")".

use sbi_spec::spi::SEND_IPI;

use super::{Call, Hart, HartSet, Outcome};

#[inline]
pub(super) fn answer(hart: &mut dyn Hart, call: &Call) -> Outcome {
    let [mask, base, ..] = call.args;
    if call.function as usize != SEND_IPI {
        return Outcome::not_supported();
    }
    match HartSet::from_mask(mask, base, hart.count()) {
        Ok(targets) => {
            hart.send_ipi(targets);
            Outcome::success(0)
        }
        Err(refused) => Outcome::Return(refused),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{FakeHart, call};
    use super::*;
    use sbi_spec::spi::EID_SPI;

    #[test]
    fn harts_of_the_mask_are_interrupted_and_others_refused() {
        let mut hart = FakeHart::default();
        let mut send = |mask, base| call(&mut hart, EID_SPI, SEND_IPI, &[mask, base]);
        assert_eq!(send(0b10, 1), Outcome::success(0));
        assert_eq!(send(0b10, 3), Outcome::invalid_param());
        assert_eq!(send(0, u64::MAX), Outcome::success(0));
        assert_eq!(hart.ipis, [HartSet(0b100), HartSet(0b1111)]);
    }
}
