//! What a route needs of whoever asks, where keys are asked for.
//!
//! Always holds: every route of the admin listener needs a scope; health and the documents of the protocol need none, nor
//! does a listener for metrics alone; a request that is refused here has not been read.

use http::HeaderMap;

use super::route::{Face, Route};
use crate::auth::{Auth, Scope, Who};
use crate::error::Error;

/// What a key is asked about.
enum Models<'a> {
    /// None, or the one that only the body names.
    None,
    One(&'a str),
    All,
}

/// Whoever asks for a route, where that is allowed.
///
/// # Errors
/// No key, or one that may not, or not so often.
pub(super) fn let_in(auth: Option<&Auth>, face: Face, route: &Route, headers: &HeaderMap) -> Result<Who, Error> {
    let Some(auth) = auth else {
        return Ok(Who::default());
    };
    let scopes = scopes(face, route);
    if scopes.is_empty() {
        return Ok(Who::default());
    }
    let who = auth.who(headers)?;
    who.may(scopes)?;
    match models(route) {
        Models::None => {}
        Models::One(model) => who.may_model(model)?,
        Models::All => who.may_all_models()?,
    }
    who.spend_request()?;
    Ok(who)
}

/// One of these; none: nothing is needed.
fn scopes(face: Face, route: &Route) -> &'static [Scope] {
    match route {
        Route::Predict(_) | Route::Infer(_) => &[Scope::Predict],
        Route::Feedback => &[Scope::Feedback],
        Route::OpenApi | Route::Live | Route::Ready | Route::ModelReady(_) | Route::NotOffered(_) => &[],
        // Whoever sends rows may know what they are to look like.
        Route::Server | Route::Metadata(_) | Route::Config(_) => &[Scope::Predict, Scope::Read],
        Route::Metrics if face == Face::Metrics => &[],
        Route::Metrics
        | Route::ModelNames
        | Route::Statistics(_)
        | Route::Index
        | Route::Models
        | Route::Ledger
        | Route::Model(_)
        | Route::Decisions(_)
        | Route::Decision(..)
        | Route::Versions(..)
        | Route::Monitor(_)
        | Route::Report(_)
        | Route::Retrainings(_) => &[Scope::Read],
        // A sample shows what is held on people.
        Route::Sample(_)
        | Route::Repository(..)
        | Route::Held(..)
        | Route::Erase(_)
        | Route::RotateKey
        | Route::Act(..)
        | Route::Retrain(_) => &[Scope::Admin],
    }
}

fn models(route: &Route) -> Models<'_> {
    match route {
        Route::Predict(None)
        | Route::Feedback
        | Route::Server
        | Route::OpenApi
        | Route::Live
        | Route::Ready
        | Route::NotOffered(_) => Models::None,
        Route::Predict(Some(model))
        | Route::Infer((model, _))
        | Route::ModelReady((model, _))
        | Route::Metadata((model, _))
        | Route::Config((model, _))
        | Route::Statistics(Some((model, _)))
        | Route::Repository(model, _)
        | Route::Model(model)
        | Route::Decisions(model)
        | Route::Decision(model, _)
        | Route::Versions(model, _)
        | Route::Monitor(model)
        | Route::Report(model)
        | Route::Sample(model)
        | Route::Retrainings(model)
        | Route::Retrain(model)
        | Route::Held(model, _)
        | Route::Erase(model)
        | Route::Act(model, _) => Models::One(model),
        Route::Metrics
        | Route::ModelNames
        | Route::Statistics(None)
        | Route::Index
        | Route::Models
        | Route::Ledger
        | Route::RotateKey => Models::All,
    }
}
