//! What an RPC needs of whoever calls, where keys are asked for: the metadata `authorization` bears the key. Which models
//! it is for is asked when the message has been read.

use http::HeaderMap;

use super::Rpc;
use crate::auth::{Auth, Scope, Who};
use crate::error::Error;

/// Whoever calls, where that is allowed.
///
/// # Errors
/// No key, or one that may not, or not so often.
pub(super) fn let_in(auth: Option<&Auth>, rpc: Rpc, metadata: &HeaderMap) -> Result<Who, Error> {
    let Some(auth) = auth else {
        return Ok(Who::default());
    };
    let scopes = scopes(rpc);
    if scopes.is_empty() {
        return Ok(Who::default());
    }
    let who = auth.who(metadata)?;
    who.may(scopes)?;
    // Of a stream each message is counted.
    if rpc != Rpc::ModelStreamInfer {
        who.spend_request()?;
    }
    Ok(who)
}

/// One of these; none: nothing is needed.
fn scopes(rpc: Rpc) -> &'static [Scope] {
    match rpc {
        Rpc::ModelInfer | Rpc::ModelStreamInfer => &[Scope::Predict],
        Rpc::ServerMetadata | Rpc::ModelMetadata | Rpc::ModelConfig => &[Scope::Predict, Scope::Read],
        Rpc::ModelStatistics | Rpc::RepositoryIndex => &[Scope::Read],
        Rpc::RepositoryModelLoad | Rpc::RepositoryModelUnload => &[Scope::Admin],
        // Health, the schemas of the protocol, and what is not offered.
        Rpc::ServerLive
        | Rpc::ServerReady
        | Rpc::ModelReady
        | Rpc::HealthCheck
        | Rpc::HealthWatch
        | Rpc::Reflection
        | Rpc::SharedMemory
        | Rpc::Settings
        | Rpc::Unknown => &[],
    }
}
