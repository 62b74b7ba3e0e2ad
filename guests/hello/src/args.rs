// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The words of the command line that change what the guest does.
//!
//! Called by the readers of boot information. A word counts only when it
//! stands alone; all others (a file name, a console=) are ignored.

/// What the command line asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Args {
    /// `spin`: after the timer step, spin for ever with interrupts masked.
    pub spin: bool,
    /// `fault`: read an address where nothing is, and report what happens.
    pub fault: bool,
    /// `reboot`: reset the machine instead of powering it off.
    pub reboot: bool,
    /// `echo`: echo input lines until one says `quit`.
    pub echo: bool,
}

impl Args {
    /// Reads the words of a command line.
    pub fn parse(line: &str) -> Self {
        let mut args = Self::default();
        for word in line.split_ascii_whitespace() {
            match word {
                "spin" => args.spin = true,
                "fault" => args.fault = true,
                "reboot" => args.reboot = true,
                "echo" => args.echo = true,
                _ => {}
            }
        }
        args
    }
}

#[cfg(test)]
mod tests {
    use super::Args;

    #[test]
    fn an_empty_line_asks_for_nothing() {
        assert_eq!(Args::parse(""), Args::default());
    }

    #[test]
    fn only_whole_words_count() {
        let args = Args::parse("/tmp/spin/hello console=ttyS0 reboot  echo\tfaulty");
        let expected = Args {
            reboot: true,
            echo: true,
            ..Args::default()
        };
        assert_eq!(args, expected);
    }
}
