//! A broken input holds promotions, where the settings say so: a hold as a person would order it, with the reason, in the
//! decisions; it is lifted when the input is sound again.
//!
//! Always holds: drift alone never freezes anything; a person's hold is neither replaced nor lifted (control sees to that,
//! on the one thread that knows), and a person's `resume` stands until something else breaks.

use crossbeam_channel::Sender;
use tokio::sync::oneshot;

use crate::control::{Act, Request};
use crate::protocol::Action;

/// By whom it is done.
pub(crate) const AUTHOR: &str = "monitor";

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Freeze {
    /// What the last order rested on; `None`: nothing is known yet, as after a start.
    said: Option<Vec<String>>,
}

impl Freeze {
    /// Orders what follows from the broken inputs, where that is something new.
    pub(super) fn follow(&mut self, broken: &[String], model: &str, acts: &Sender<Request>) {
        let known = self.said.as_deref();
        let is_sound = broken.is_empty();
        // Of what is better by now, or the same, nothing new is to be said while something is still broken.
        let is_new = broken.iter().any(|one| known.is_none_or(|known| !known.contains(one)));
        let is_over = is_sound && known.is_none_or(|known| !known.is_empty());
        if !is_new && !is_over {
            return;
        }
        let (action, reason) = if is_sound {
            (Action::Resume, "the inputs are sound again".to_owned())
        } else {
            (Action::Hold, format!("broken input: {}", broken.join(", ")))
        };
        let act = Act {
            model: model.to_owned(),
            action,
            version: None,
            author: AUTHOR.to_owned(),
            has_key: false,
            reason,
        };
        // Nobody waits for the answer: what comes of it shows in the model's view.
        let (reply, _) = oneshot::channel();
        if acts.try_send(Request { act, reply }).is_ok() {
            self.said = Some(broken.to_vec());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hold_is_ordered_once_again_only_for_something_new_and_lifted_once() {
        let (acts, ordered) = crossbeam_channel::bounded(9);
        let mut freeze = Freeze::default();
        let mut follow = |broken: &[&str]| -> Vec<&'static str> {
            let broken: Vec<String> = broken.iter().map(|one| (*one).to_owned()).collect();
            freeze.follow(&broken, "m", &acts);
            ordered
                .try_iter()
                .map(|request: Request| request.act.action.name())
                .collect()
        };
        assert_eq!(follow(&[]), ["resume"], "after a start its own hold may be in force");
        assert!(follow(&[]).is_empty());
        assert_eq!(follow(&["x frozen"]), ["hold"]);
        assert!(follow(&["x frozen"]).is_empty(), "a person may have resumed");
        assert_eq!(follow(&["x frozen", "y type"]), ["hold"]);
        assert!(follow(&["y type"]).is_empty());
        assert_eq!(follow(&[]), ["resume"]);
    }
}
