//! A person's orders. Where keys are asked for, their author is whoever has the key.

use super::backend::Backend;
use super::reply::{self, Answer};
use crate::auth::Who;
use crate::error::Error;
use crate::protocol::{Action, Erasure, Order, Rotation};

/// `POST /api/models/{m}/{action}`.
pub(crate) async fn act<B: Backend>(
    backend: &B,
    model: &str,
    action: Action,
    body: &[u8],
    who: &Who,
) -> Result<Answer, Error> {
    let order = Order::parse(body, who.name())?;
    Ok(reply::value(200, &backend.act(model, action, order).await?))
}

/// `POST /api/models/{m}/erase`.
pub(crate) async fn erase<B: Backend>(backend: &B, model: &str, body: &[u8], who: &Who) -> Result<Answer, Error> {
    let order = Erasure::parse(body, who.name())?;
    Ok(reply::value(200, &backend.erase(model, order).await?))
}

/// `POST /api/rotate-key`.
pub(crate) async fn rotate_key<B: Backend>(backend: &B, body: &[u8], who: &Who) -> Result<Answer, Error> {
    let order = Rotation::parse(body, who.name())?;
    Ok(reply::value(200, &backend.rotate_key(order).await?))
}
