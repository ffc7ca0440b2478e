//! Colours for tables that stand without them.
//!
//! Always holds: what goes into a pipe or a file is the plain text; `NO_COLOR`, `CLICOLOR` and terminals that know no
//! colours are respected (by `anstream`, which takes the codes out again there).

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};

/// A status table with its verdicts and alarms in colours.
pub(super) fn status(table: &str) -> String {
    let mut painted = String::with_capacity(table.len() * 2);
    for (number, line) in table.lines().enumerate() {
        let said = line.trim_start();
        let style = match said {
            _ if number == 0 => Style::new().bold(),
            _ if said.starts_with("alarm:") || said.starts_with("the ledger ") => AnsiColor::Red.on_default(),
            _ if said.starts_with("warning:") || said.starts_with("guardrail ") => AnsiColor::Yellow.on_default(),
            _ if said.ends_with("  wins") => AnsiColor::Green.on_default(),
            _ if said.ends_with("  loses") => AnsiColor::Red.on_default(),
            _ => Style::new(),
        };
        // Writing to a string does not fail.
        let _ = writeln!(painted, "{style}{line}{style:#}");
    }
    painted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_add_nothing_but_colours() {
        let table = "m: champion a\n  version  verdict\n  b        wins\n  c        loses\n  alarm: the champion fails\n  b: why\n";
        let painted = status(table);
        assert!(painted.contains("\u{1b}[32m  b        wins\u{1b}[0m"), "{painted:?}");
        assert!(painted.contains("\u{1b}[31m  alarm:"), "{painted:?}");
        assert!(painted.contains("\n  b: why\n"), "{painted:?}");
        assert_eq!(anstream::adapter::strip_str(&painted).to_string(), table);
    }
}
