//! The floor: the thinnest server that still does the work. hyper, one flat buffer, one session per thread, one output.
//!
//! It knows no versions, ids, metrics, limits or errors (a bad request closes the connection): what the gateway costs
//! on top is what all of that costs. It runs as a process of its own, with the gateway's runtime, allocator and flags.

mod grpc;
mod json;
mod oip;

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use ort::environment::Environment;
use ort::session::{HasSelectedOutputs, OutputSelector, RunOptions, Session};
use ort::value::TensorRef;
use tokio::net::TcpListener;
use tokio_util::task::TaskTracker;

use super::Fallible;
use super::models::FEATURES;

static ENVIRONMENT: OnceLock<Environment> = OnceLock::new();
static MODELS: OnceLock<PathBuf> = OnceLock::new();

/// A session, and the choice of the one output that is computed.
type Seat = (Session, RunOptions<HasSelectedOutputs>);

thread_local! {
    static SEATS: RefCell<HashMap<String, Seat>> = RefCell::default();
}

/// Serves the models of a directory on a free port, which it prints, until it is killed.
pub(crate) fn run(models: &Path) -> Fallible<()> {
    let library = std::env::var_os("ORT_DYLIB_PATH").ok_or("ORT_DYLIB_PATH is not set")?;
    let environment = ort::init_from(&library)?.with_telemetry(false).build()?;
    let _ = ENVIRONMENT.set(environment);
    let _ = MODELS.set(models.to_path_buf());
    // What is loaded here is loaded again by each worker; a fault shows before the first request.
    for entry in std::fs::read_dir(models)? {
        seat(&entry?.file_name().to_string_lossy())?;
    }
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(serve())
}

async fn serve() -> Fallible<()> {
    let http = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let grpc = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    for (name, listener) in [("grpc", &grpc), ("data", &http)] {
        println!("{{\"listener\":\"{name}\",\"address\":\"{}\"}}", listener.local_addr()?);
    }
    let tracker = TaskTracker::new();
    loop {
        tokio::select! {
            accepted = http.accept() => {
                let (stream, _) = accepted?;
                stream.set_nodelay(true)?;
                tracker.spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer)));
            }
            accepted = grpc.accept() => {
                let (stream, _) = accepted?;
                stream.set_nodelay(true)?;
                let builder = http2::Builder::new(TokioExecutor::new());
                tracker.spawn(builder.serve_connection(TokioIo::new(stream), service_fn(grpc::answer)));
            }
        }
    }
}

async fn answer(request: Request<Incoming>) -> Fallible<Response<Full<Bytes>>> {
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    // `/models/{model}/predict` or `/v2/models/{model}/infer`.
    let (way, is_oip) = match head.uri.path().strip_prefix("/v2") {
        Some(way) => (way, true),
        None => (head.uri.path(), false),
    };
    let model = way.split('/').nth(2).unwrap_or_default();
    with_seat(model, |seat| match (is_oip, head.headers.get(oip::LENGTH)) {
        (false, _) => {
            let rows = json::rows(&body)?;
            let mut out = Vec::with_capacity(64 + rows.len());
            compute(seat, &rows, |scores| json::write(&mut out, scores))?;
            Ok(response(out, "application/json"))
        }
        (true, None) => {
            let rows = oip::json(&body)?;
            let mut out = Vec::with_capacity(192 + rows.len());
            compute(seat, &rows, |scores| oip::write(&mut out, model, scores))?;
            Ok(response(out, "application/json"))
        }
        (true, Some(length)) => {
            let rows = oip::binary(&body, length.to_str()?.parse()?)?;
            let mut out = Vec::with_capacity(256 + rows.len());
            let mut split = 0;
            compute(seat, &rows, |scores| split = oip::write_binary(&mut out, model, scores))?;
            let mut response = response(out, "application/octet-stream");
            response.headers_mut().insert(oip::LENGTH, split.into());
            Ok(response)
        }
    })
}

fn response(body: Vec<u8>, content: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    let content = http::HeaderValue::from_static(content);
    response.headers_mut().insert(http::header::CONTENT_TYPE, content);
    response
}

/// One run over `numbers`, `[rows, FEATURES]`; `use_scores` gets `[rows, 2]`.
fn compute(seat: &mut Seat, numbers: &[f32], use_scores: impl FnOnce(&[f32])) -> Fallible<()> {
    let (session, options) = seat;
    let input = TensorRef::from_array_view(([numbers.len() / FEATURES, FEATURES], numbers))?;
    let outputs = session.run_with_options(ort::inputs![input], options)?;
    let (_, scores) = outputs[0].try_extract_tensor::<f32>()?;
    use_scores(scores);
    Ok(())
}

fn with_seat<T>(model: &str, work: impl FnOnce(&mut Seat) -> Fallible<T>) -> Fallible<T> {
    SEATS.with_borrow_mut(|seats| match seats.get_mut(model) {
        Some(seat) => work(seat),
        None => work(seats.entry(model.to_owned()).or_insert(seat(model)?)),
    })
}

fn seat(model: &str) -> Fallible<Seat> {
    let environment = ENVIRONMENT.get().ok_or("no environment")?;
    let models = MODELS.get().ok_or("no models")?;
    let build = || -> ort::Result<Session> {
        Session::builder(environment)?
            .with_intra_threads(1)?
            .with_inter_threads(1)?
            .commit_from_file(models.join(model).join("v1.onnx"))
    };
    let session = build()?;
    let options = RunOptions::new()?.with_outputs(OutputSelector::no_default().with("probabilities"));
    Ok((session, options))
}
