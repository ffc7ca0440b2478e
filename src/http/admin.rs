//! A person's orders and questions. Where keys are asked for, their author is whoever has the key.

use super::backend::Backend;
use super::query;
use super::reply::{self, Answer};
use crate::auth::Who;
use crate::error::{Error, Kind};
use crate::protocol::{Action, Erasure, Order, Rotation};
use crate::report::{MOST_ROWS, SampleOrder, Since};

/// How far back a question goes that does not say so.
const SINCE: &str = "7d";
/// Rows of a sample that does not say how many.
const ROWS: usize = 20;

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

/// `POST /api/models/{m}/retrain`.
pub(crate) async fn retrain<B: Backend>(backend: &B, model: &str, body: &[u8], who: &Who) -> Result<Answer, Error> {
    let order = Order::parse(body, who.name())?;
    Ok(reply::value(200, &backend.retrain(model, order).await?))
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

/// Where a stretch begins.
fn since(asked: Option<&String>) -> Result<Since, Error> {
    let text = asked.map_or(SINCE, String::as_str);
    text.parse()
        .map_err(|why| Error::new(Kind::BadRequest, format!("since: {why}")))
}

/// `GET /api/models/{m}/report`.
pub(crate) async fn report<B: Backend>(backend: &B, model: &str, asked: Option<&str>) -> Result<Answer, Error> {
    let [asked] = query::values(asked, ["since"])?;
    Ok(reply::value(200, &backend.report(model, since(asked.as_ref())?).await?))
}

/// `GET /api/models/{m}/sample`.
pub(crate) async fn sample<B: Backend>(backend: &B, model: &str, asked: Option<&str>) -> Result<Answer, Error> {
    let [n, asked, seed] = query::values(asked, ["n", "since", "seed"])?;
    let n = query::read("n", n.as_ref())?.unwrap_or(ROWS);
    if !(1..=MOST_ROWS).contains(&n) {
        let text = format!("n: a sample has 1 to {MOST_ROWS} rows");
        return Err(Error::new(Kind::BadRequest, text));
    }
    let order = SampleOrder {
        n,
        since: since(asked.as_ref())?,
        seed: query::read("seed", seed.as_ref())?,
    };
    Ok(reply::value(200, &backend.sample(model, order).await?))
}
