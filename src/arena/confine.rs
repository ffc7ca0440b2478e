//! What keeps a runner in: no new privileges, the rules of landlock, the filter of system calls.
//!
//! Always holds: it is in force before the first byte of a model is looked at, in the thread that will look at it and in
//! all that start later; a runner that must be confined and is not ends before it is asked anything; each runner says
//! what holds it, so that nobody has to believe the kernel's version number.
//! Leaves to others: the steps before it (`sandbox`), when it is called (`runner`), what is said and done about a
//! facility that is lacking (`gateway`).

mod calls;

use std::io;
use std::time::Duration;

use landlock::{ABI, Access, AccessFs, AccessNet, LandlockStatus, Ruleset, RulesetAttr, RulesetStatus, Scope};
use serde::Serialize;

use super::client::RunnerClient;
use super::sandbox;
use super::spawner::{RunnerSpec, Spawner};

/// How long a runner may take to say what holds it; a busy machine takes a part of a second.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is done where the kernel lacks a facility.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SandboxPolicy {
    /// Nothing runs.
    Require,
    /// It is said, and runners go without.
    #[default]
    Prefer,
}

impl SandboxPolicy {
    /// Its name in the settings.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Require => "require",
            Self::Prefer => "prefer",
        }
    }
}

/// What holds a runner.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Confinement {
    /// It gains no privileges by starting a program.
    pub no_new_privs: bool,
    /// Landlock lets it open no file.
    pub files: bool,
    /// Landlock lets it open no connection. The filter does the same: kernels before 6.7 have this alone.
    pub network: bool,
    /// The filter lets through those system calls only that a loaded model needs.
    pub system_calls: bool,
}

impl Confinement {
    /// As a byte of the wire.
    #[must_use]
    pub fn bits(self) -> u8 {
        [self.no_new_privs, self.files, self.network, self.system_calls]
            .into_iter()
            .rev()
            .fold(0, |bits, is_held| bits << 1 | u8::from(is_held))
    }

    /// The same, back.
    #[must_use]
    pub fn of_bits(bits: u8) -> Self {
        let is_held = |bit: u8| bits >> bit & 1 == 1;
        Self {
            no_new_privs: is_held(0),
            files: is_held(1),
            network: is_held(2),
            system_calls: is_held(3),
        }
    }

    /// The facilities that are lacking, each with what would bring it. Rules for the network may be lacking: without a
    /// socket, which the filter denies, they add nothing.
    #[must_use]
    pub fn lacks(self) -> Vec<&'static str> {
        let needed = [
            (self.no_new_privs, "no_new_privs (Linux 3.5 or newer)"),
            (
                self.files,
                "landlock file rules (Linux 5.13 or newer, `landlock` among the kernel's LSMs, and a container that \
                 does not block its system calls)",
            ),
            (
                self.system_calls,
                "seccomp filters (a kernel with CONFIG_SECCOMP_FILTER, and a container that does not block them)",
            ),
        ];
        needed
            .into_iter()
            .filter(|(held, _)| !held)
            .map(|(_, name)| name)
            .collect()
    }
}

/// What holds the runners of this system, and what was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Sandbox {
    /// Its name in the settings.
    pub setting: &'static str,
    /// What a runner said of itself.
    #[serde(flatten)]
    pub confinement: Confinement,
    /// See [`Confinement::lacks`].
    pub lacks: Vec<&'static str>,
}

impl Sandbox {
    /// Starts a runner and asks it.
    ///
    /// # Errors
    /// Why there is no runner to ask, or the facilities that are required and lacking, with the way out.
    pub fn probe(spawner: &Spawner, policy: SandboxPolicy) -> Result<Self, String> {
        let no_runner = |error: &dyn std::fmt::Display| format!("a runner could not be started: {error}");
        // One that ends where a facility is lacking could not say which.
        let spawner = spawner.clone().with_policy(SandboxPolicy::Prefer);
        let process = spawner.spawn(RunnerSpec::default()).map_err(|e| no_runner(&e))?;
        let mut runner = RunnerClient::new(process).map_err(|e| no_runner(&e))?;
        let confinement = runner.ping(PATIENCE).map_err(|e| no_runner(&e))?;
        let lacks = confinement.lacks();
        if policy == SandboxPolicy::Require && !lacks.is_empty() {
            return Err(format!(
                "sandbox = \"require\", and this system lacks what keeps a model's process in: {}; mend that, or set \
                 sandbox = \"prefer\" to run models without",
                lacks.join("; ")
            ));
        }
        Ok(Self {
            setting: policy.name(),
            confinement,
            lacks,
        })
    }
}

/// Confines this process as far as the kernel goes. There is no way back.
///
/// To be called while this is the only thread, and after everything was opened that is needed later: of what the
/// threads of that moment hold, nothing is taken away.
#[must_use]
pub fn confine() -> Confinement {
    // What follows asks for it too, and goes without where it cannot have it: what counts is the kernel's word.
    let _ = sandbox::no_new_privs();
    let no_new_privs = sandbox::has_no_new_privs();
    let (files, network) = rules().unwrap_or_default();
    Confinement {
        no_new_privs,
        files,
        network,
        // Last: it takes away the calls that the lines above make.
        system_calls: calls::filter().is_ok(),
    }
}

/// The same, and an error where it must be whole and is not.
///
/// # Errors
/// The facilities that are lacking.
pub fn confine_as(policy: SandboxPolicy) -> io::Result<Confinement> {
    let confinement = confine();
    let lacks = confinement.lacks();
    if policy == SandboxPolicy::Require && !lacks.is_empty() {
        return Err(io::Error::other(format!("the system lacks {}", lacks.join("; "))));
    }
    Ok(confinement)
}

/// Rules that allow nothing: no file, no connection, no signal to others. Gives whether those for files and those for
/// the network are in force.
fn rules() -> Option<(bool, bool)> {
    let everything = ABI::V6;
    let files = |rules: Ruleset| rules.handle_access(AccessFs::from_all(everything)).ok();
    let network = |rules: Ruleset| rules.handle_access(AccessNet::from_all(everything)).ok();
    let others = |rules: Ruleset| rules.scope(Scope::from_all(everything)).ok();
    let all = files(Ruleset::default()).and_then(network).and_then(others)?;
    let status = all.create().ok()?.restrict_self().ok()?;
    let files = status.ruleset != RulesetStatus::NotEnforced;
    let knows_network = match status.landlock {
        LandlockStatus::Available { effective_abi, .. } => effective_abi >= ABI::V4,
        _ => false,
    };
    Some((files, files && knows_network))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_holds_a_runner_survives_its_way_over_the_wire() {
        for bits in 0..16 {
            assert_eq!(Confinement::of_bits(bits).bits(), bits);
        }
    }

    #[test]
    fn a_lacking_facility_is_named_and_rules_for_the_network_are_no_need() {
        let whole = Confinement::of_bits(0b1111);
        assert!(whole.lacks().is_empty());
        assert!(
            Confinement {
                network: false,
                ..whole
            }
            .lacks()
            .is_empty()
        );
        let without = Confinement { files: false, ..whole }.lacks();
        assert!(without.len() == 1 && without[0].starts_with("landlock"), "{without:?}");
        assert_eq!(Confinement::default().lacks().len(), 3);
    }
}
