//! Which outputs a run computes, and which of them the reply carries.

use std::sync::Arc;

use crate::champion::VersionInfo;
use crate::decode::Wanted;
use crate::error::{Error, Kind};

/// Which outputs to compute, and which of them to give back raw.
#[derive(Debug, Default)]
pub(in crate::champion) struct Outputs {
    /// Numbers into the signature: the head's first, then the raw ones that the head does not need.
    pub(in crate::champion) run: Vec<usize>,
    /// How many of `run` the head reads.
    pub(in crate::champion) head: usize,
    /// Name and place in `run` of the raw ones, in the order asked for, none twice.
    pub(in crate::champion) raw: Vec<(Arc<str>, usize)>,
}

impl Outputs {
    /// What answers `wanted` at this version.
    ///
    /// # Errors
    /// It has no output of a name that was asked for.
    pub(in crate::champion) fn of(info: &VersionInfo, wanted: &Wanted) -> Result<Self, Error> {
        let head = info.head.wanted();
        let mut outputs = Self {
            run: head.to_vec(),
            head: head.len(),
            raw: Vec::new(),
        };
        match wanted {
            // What nobody asked for is not computed; without a task there is nothing but raw outputs.
            Wanted::None if info.head.task.is_some() => {}
            Wanted::None | Wanted::All => (0..info.outputs.len()).for_each(|number| outputs.add(info, number)),
            Wanted::Known(names) => {
                for name in names {
                    if let Some(number) = info.outputs.iter().position(|known| known == name) {
                        outputs.add(info, number);
                    }
                }
            }
            Wanted::Names(names) => {
                for name in names {
                    let number = info.outputs.iter().position(|known| **known == **name);
                    outputs.add(info, number.ok_or_else(|| unknown(info, name))?);
                }
            }
        }
        Ok(outputs)
    }

    fn add(&mut self, info: &VersionInfo, number: usize) {
        let Some(name) = info.outputs.get(number) else { return };
        let place = self.run.iter().position(|&n| n == number).unwrap_or_else(|| {
            self.run.push(number);
            self.run.len() - 1
        });
        if self.raw.iter().all(|(_, known)| *known != place) {
            self.raw.push((Arc::clone(name), place));
        }
    }
}

fn unknown(info: &VersionInfo, name: &str) -> Error {
    let have: Vec<&str> = info.outputs.iter().map(AsRef::as_ref).collect();
    let text = format!(
        "version '{}' has no output '{name}'; it has {}",
        info.name,
        have.join(", ")
    );
    Error::new(Kind::UnknownOutput, text)
}
