// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Figures by name, as the benchmark guest prints them.
//!
//! Filled from a console by `measure`, from a committed file by `results`. The
//! console may prefix a guest's lines; anything else on it is passed over.

/// Figures in the order in which they were printed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures(Vec<(String, f64)>);

impl Figures {
    /// Reads the lines `BENCH <name> <number> <unit>` of a console.
    pub fn of_console(text: &str) -> Self {
        let mut figures = Self::default();
        for (name, value) in text.lines().filter_map(figure_of_line) {
            figures.add(name, value);
        }
        figures
    }

    /// Adds a figure; a second one of the same name replaces the first.
    pub fn add(&mut self, name: &str, value: f64) {
        self.0.retain(|(known, _)| known != name);
        self.0.push((name.to_string(), value));
    }

    /// Adds all of `others`.
    pub fn extend(&mut self, others: Self) {
        for (name, value) in others.0 {
            self.add(&name, value);
        }
    }

    /// Leaves out the figures whose names start with `prefix`.
    pub fn leave_out(&mut self, prefix: &str) {
        self.0.retain(|(name, _)| !name.starts_with(prefix));
    }

    /// Returns the figure of this name.
    pub fn get(&self, name: &str) -> Option<f64> {
        let mut all = self.0.iter();
        all.find(|(known, _)| known == name)
            .map(|(_, value)| *value)
    }

    /// Returns all figures.
    pub fn iter(&self) -> impl Iterator<Item = (&str, f64)> {
        self.0.iter().map(|(name, value)| (name.as_str(), *value))
    }

    /// Tells whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn figure_of_line(line: &str) -> Option<(&str, f64)> {
    let mut words = line.split_whitespace().skip_while(|word| *word != "BENCH");
    words.next()?;
    let name = words.next().filter(|name| is_name(name))?;
    let value = words.next()?.parse::<f64>().ok()?;
    (value.is_finite() && value >= 0.0).then_some((name, value))
}

// Names are bare keys in TOML, too.
fn is_name(name: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    !name.is_empty() && name.bytes().all(is_letter)
}

#[cfg(test)]
mod tests {
    use super::Figures;

    #[test]
    fn a_prefix_and_other_lines_do_not_matter() {
        let console = "noise\r\n[bench] BENCH a-1 12.50 instructions\r\nBENCH b 7 instructions\n";
        let figures = Figures::of_console(console);
        assert_eq!(figures.get("a-1"), Some(12.5));
        assert_eq!(figures.get("b"), Some(7.0));
        assert_eq!(figures.iter().count(), 2);
    }

    #[test]
    fn lines_that_are_no_figures_are_passed_over() {
        let console = "BENCH\nBENCH a\nBENCH a b\nBENCH a=1 2\nBENCH a -3 x\nBENCH a inf x\n";
        assert!(Figures::of_console(console).is_empty());
    }

    #[test]
    fn figures_can_be_left_out() {
        let mut figures = Figures::of_console("BENCH linux-boot 1 x\nBENCH a 2 x\n");
        figures.leave_out("linux-");
        assert_eq!(figures.iter().collect::<Vec<_>>(), [("a", 2.0)]);
    }

    #[test]
    fn the_last_figure_of_a_name_counts() {
        let figures = Figures::of_console("BENCH a 1 x\nBENCH a 2 x\n");
        assert_eq!(figures.iter().collect::<Vec<_>>(), [("a", 2.0)]);
    }
}
