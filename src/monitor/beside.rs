//! The monitor's view of a state directory, without its thread: what was kept is folded on to the last recorded row.
//!
//! Always holds: nothing is written, and it is folded by the code that folds in service, so that at the same row the same
//! is shown. Where nothing was kept it is folded from the first row on, or, of a long record, from as far back as the
//! monitor would go.

use std::path::Path;

use serde_json::Value as Json;

use super::feature::Known;
use super::fold::Fold;
use super::follow::{Files, FollowError, Followed, follow, follow_labels, reread, shown_by, wake};
use super::keep;
use super::outcomes::Terms;
use super::view::{Labels, publish};
use crate::control::policy;
use crate::history::History;
use crate::ledger::{Ledger, LedgerError, Writer};
use crate::model::interface::Interface;
use crate::score::{ModelNo, VersionNo};

/// What rows are compared with: the baseline's features, and the outputs.
#[derive(Debug, Clone, Default)]
pub(crate) struct Compared {
    /// Features of the baseline.
    pub(crate) inputs: Vec<Known>,
    /// Score and label.
    pub(crate) outputs: Vec<Known>,
    /// It is all there.
    pub(crate) is_complete: bool,
}

impl From<&Fold> for Compared {
    fn from(fold: &Fold) -> Self {
        let known = |features: &[super::feature::Feature]| features.iter().map(|f| f.known.clone()).collect();
        Self {
            inputs: known(&fold.features),
            outputs: known(&fold.outputs),
            is_complete: fold.baseline.is_settled(),
        }
    }
}

/// What the champion's rows are compared with, as it was last kept: by the monitor's file, or by the ledger, which has no
/// outputs.
pub(crate) fn compared(state: &Path, reader: &Writer<'_>, model: ModelNo, champion: Option<VersionNo>) -> Compared {
    let kept = keep::load(&state.join("monitor"), model).ok().flatten();
    if let Some((fold, _)) = kept.filter(|(fold, _)| fold.version.is_some() && fold.version == champion) {
        return Compared::from(&fold);
    }
    let stored = champion.and_then(|champion| reader.baseline(champion).ok().flatten());
    let stored: Option<super::baseline::Baseline> = stored.and_then(|text| serde_json::from_str(&text).ok());
    stored.map_or_else(Compared::default, |baseline| Compared {
        is_complete: baseline.is_settled(),
        inputs: baseline.features,
        outputs: Vec::new(),
    })
}

/// What the gateway would show at `now_ms`, and what it rests on; `None` where the settings say that nothing is watched.
///
/// # Errors
/// What the ledger says.
pub(crate) fn look(
    ledger: &Ledger,
    state: &Path,
    history: &History<'_>,
    now_ms: i64,
) -> Result<Option<(Json, Compared)>, LedgerError> {
    let (settings, model, reader) = (&history.config.monitor, &history.model, ledger.reader());
    if !settings.on {
        return Ok(None);
    }
    let last = reader.last_row(model.no)?;
    let mut followed: Followed = wake(&state.join("monitor"), model.no, last);
    let is_whole = reader.ends(model.no)?.is_some_and(|(first, _)| first.row == 1);
    let files = Files {
        ledger,
        of: (model.no, &model.name),
        directory: None,
        columns: &[],
        served: None,
        learns_again: is_whole && followed.fold.version.is_none() && followed.fold.last.row == 0,
    };
    let threshold = history.config.threshold;
    reread(&mut followed, ledger, model.no, settings, threshold)?;
    let interface: Option<Interface> = model
        .interface
        .as_deref()
        .and_then(|text| serde_json::from_str(text).ok());
    let rules = policy::policy(&history.config, interface.and_then(|interface| interface.task));
    followed.groups.follow_groups(&rules.groups);
    let metric = shown_by(rules.metric);
    let terms = Terms {
        metric: &metric,
        threshold,
        window: settings.window,
        alpha: settings.alpha,
        decay: settings.decay,
        by: &settings.by,
    };
    let unread = |FollowError::Ledger(error)| error;
    loop {
        let more = follow(&mut followed, &files, settings, threshold, last).map_err(unread)?;
        let labels = follow_labels(&mut followed, &files, &terms).map_err(unread)?;
        if !more && !labels {
            break;
        }
    }
    let name = followed.fold.version.and_then(|version| files.name_of(version));
    followed.fold.volume.tick(now_ms);
    let labels = Labels {
        outcomes: &followed.outcomes,
        terms: &terms,
    };
    let published = publish(&followed.fold, settings, name.as_deref(), 0, now_ms, labels);
    Ok(Some((published.json, Compared::from(&followed.fold))))
}
