//! A person's orders.

use super::backend::Backend;
use super::reply::{self, Answer};
use crate::error::Error;
use crate::protocol::{Action, Erasure, Order};

/// `POST /api/models/{m}/{action}`.
pub(crate) async fn act<B: Backend>(backend: &B, model: &str, action: Action, body: &[u8]) -> Result<Answer, Error> {
    let order = Order::parse(body)?;
    Ok(reply::value(200, &backend.act(model, action, order).await?))
}

/// `POST /api/models/{m}/erase`.
pub(crate) async fn erase<B: Backend>(backend: &B, model: &str, body: &[u8]) -> Result<Answer, Error> {
    let order = Erasure::parse(body)?;
    Ok(reply::value(200, &backend.erase(model, order).await?))
}
