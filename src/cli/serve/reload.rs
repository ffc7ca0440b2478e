//! SIGHUP: the settings are read again. What can take effect does, what cannot is named, and faulty ones change nothing.

use std::path::PathBuf;

use crate::config::{Effective, ServeArgs, ServerConfig};
use crate::gateway::{Running, is_reloaded};

/// What the settings are, to tell what has changed.
#[derive(Debug)]
pub(super) struct Reloader<'a> {
    args: &'a ServeArgs,
    /// As the process was started, or as they took effect since.
    settings: Vec<Effective>,
}

impl<'a> Reloader<'a> {
    pub(super) fn new(args: &'a ServeArgs, settings: Vec<Effective>) -> Self {
        Self { args, settings }
    }

    /// Reads, compares, and lets take effect.
    pub(super) fn reload(&mut self, running: &mut Running) {
        let file = self
            .args
            .config
            .clone()
            .unwrap_or_else(|| PathBuf::from("dethrone.toml"));
        let (config, settings) = match ServerConfig::effective(self.args) {
            Ok(read) => read,
            Err(faults) => {
                let text = "the settings cannot be used, and those in force stay: mend the file and send SIGHUP again";
                return tracing::error!(file = %file.display(), %faults, "{text}");
            }
        };
        let (mut took_effect, mut need_restart) = (Vec::new(), Vec::new());
        for (now, read) in self.settings.iter_mut().zip(settings) {
            if now.value == read.value {
                continue;
            }
            if is_reloaded(&read.key) {
                took_effect.push(format!("{} = {}", read.key, read.value));
                *now = read;
            } else {
                need_restart.push(read.key);
            }
        }
        running.reload(&config);
        tracing::info!(
            changed = took_effect.join(", "),
            "the settings were read again; new connections have them"
        );
        if !need_restart.is_empty() {
            let keys = need_restart.join(", ");
            tracing::warn!(
                keys,
                "these settings have changed in the file and need a restart to take effect"
            );
        }
    }
}
