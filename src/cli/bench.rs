//! `dethrone bench`: a small load generator, to see what a running gateway does on this machine.
//!
//! Always holds: connections, time and memory are bounded; nothing of it is recorded, shadowed or evidence unless
//! `--record` says so; it asks this machine unless told another address. Leaves to others: comparing builds and machines
//! (`cargo bench --bench gateway`).

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Args;
use hdrhistogram::Histogram;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::task::JoinSet;

use super::{Door, Failure, answer_of, parse};
use crate::client::Client;

/// Times are told apart to three digits, up to this many microseconds.
const LONGEST_US: u64 = 60_000_000;

/// `dethrone bench`.
#[derive(Debug, Clone, Args)]
pub struct BenchArgs {
    /// Data listener of the gateway
    #[arg(long, env = "DETHRONE_DATA", default_value = "127.0.0.1:8080", value_parser = super::address)]
    pub to: String,
    /// File that holds an API key, where the gateway asks for one
    #[arg(long, env = "DETHRONE_KEY_FILE", value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// PEM file with the authorities to trust, or with the gateway's own certificate, for https
    #[arg(long, env = "DETHRONE_CA_FILE", value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// PEM file with a certificate and its key, where the gateway asks clients for one
    #[arg(long, env = "DETHRONE_CLIENT_PEM", value_name = "FILE")]
    pub client_pem: Option<PathBuf>,
    /// Model; may be left out when one is served
    #[arg(long)]
    pub model: Option<String>,
    /// How many connections ask at once
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub connections: u16,
    /// How long
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = time)]
    pub time: Duration,
    /// Requests a second, sent when they are due whether or not the ones before are answered [default: as many as can be]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub rate: Option<u32>,
    /// Rows of a request
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=10_000), conflicts_with = "body")]
    pub rows: u16,
    /// Send this body to /predict instead of one that is made up from the model's inputs
    #[arg(long, value_name = "FILE")]
    pub body: Option<PathBuf>,
    /// Let the rows be recorded and shadowed like others
    #[arg(long)]
    pub record: bool,
    /// One line of JSON instead of text
    #[arg(long)]
    pub json: bool,
}

fn time(text: &str) -> Result<Duration, String> {
    match text.parse()? {
        crate::span::Span::Time(time) if (Duration::from_millis(100)..=Duration::from_secs(3_600)).contains(&time) => {
            Ok(time)
        }
        _ => Err("must be a time between 100ms and 1h".into()),
    }
}

impl BenchArgs {
    fn client(&self) -> Result<Client, Failure> {
        let door = Door {
            admin: self.to.clone(),
            key_file: self.key_file.clone(),
            ca_file: self.ca_file.clone(),
            client_pem: self.client_pem.clone(),
        };
        door.client()
    }
}

/// What one connection has seen.
struct Seen {
    times: Histogram<u64>,
    /// Answers other than 200, and requests without one.
    failed: u64,
    first_failure: Option<String>,
}

/// Asks until the time is over, and prints what came back.
///
/// # Errors
/// The gateway cannot be reached, or a request failed.
pub fn run(args: &BenchArgs) -> Result<(), Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::failed(format_args!("cannot start the runtime: {e}")))?
        .block_on(load(args))
}

async fn load(args: &BenchArgs) -> Result<(), Failure> {
    let body = body(args).await?;
    // A body that the gateway does not take is said once, not a million times.
    let mut client = args.client()?;
    answer_of(client.post("/predict", body.clone()).await?)?;
    let begun = Instant::now();
    let plan = Arc::new(Plan {
        body,
        begun,
        end: begun + args.time,
        // Each connection sends its own share of the requests, spread evenly.
        every: args
            .rate
            .map(|rate| Duration::from_secs_f64(f64::from(args.connections) / f64::from(rate))),
        connections: u32::from(args.connections),
    });
    let mut asking = JoinSet::new();
    for number in 0..u32::from(args.connections) {
        let (plan, client) = (Arc::clone(&plan), args.client()?);
        asking.spawn(async move { plan.ask(number, client).await });
    }
    let mut all = Seen::new()?;
    while let Some(done) = asking.join_next().await {
        let seen = done.map_err(Failure::failed)??;
        all.times.add(&seen.times).map_err(Failure::failed)?;
        all.failed += seen.failed;
        all.first_failure = all.first_failure.or(seen.first_failure);
    }
    report(args, &all, begun.elapsed());
    match all.first_failure {
        None => Ok(()),
        Some(first) => Err(Failure::Failed(format!(
            "{} requests failed; the first: {first}",
            all.failed
        ))),
    }
}

/// What all connections keep to.
struct Plan {
    body: Bytes,
    begun: Instant,
    end: Instant,
    every: Option<Duration>,
    connections: u32,
}

impl Plan {
    async fn ask(&self, number: u32, mut client: Client) -> Result<Seen, Failure> {
        let mut seen = Seen::new()?;
        let mut due = self.begun + self.every.unwrap_or_default() * number / self.connections.max(1);
        loop {
            let start = match self.every {
                None => Instant::now(),
                Some(every) => {
                    tokio::time::sleep_until(due.into()).await;
                    // Counted from when it was due: a gateway that stalls makes the ones behind late too.
                    let start = due;
                    due += every;
                    start
                }
            };
            if start >= self.end {
                return Ok(seen);
            }
            let failure = match client.post("/predict", self.body.clone()).await {
                Ok((200, _)) => None,
                Ok(answer) => answer_of(answer).err().map(|error| error.to_string()),
                Err(error) => Some(error.to_string()),
            };
            match failure {
                None => seen.times.saturating_record(micros(start.elapsed())),
                Some(failure) => {
                    seen.failed += 1;
                    seen.first_failure.get_or_insert(failure);
                }
            }
        }
    }
}

impl Seen {
    fn new() -> Result<Self, Failure> {
        Ok(Self {
            times: Histogram::new_with_max(LONGEST_US, 3).map_err(Failure::failed)?,
            failed: 0,
            first_failure: None,
        })
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn report(args: &BenchArgs, all: &Seen, took: Duration) {
    let times = &all.times;
    let quantiles = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)];
    #[expect(clippy::cast_precision_loss, reason = "requests of an hour are far below 2^53")]
    let per_second = times.len() as f64 / took.as_secs_f64();
    // How many a given body has is not known here.
    let rows = match args.body {
        None => format!(", {:.0} rows/s", per_second * f64::from(args.rows)),
        Some(_) => String::new(),
    };
    if args.json {
        let us: Map<String, Value> = quantiles
            .iter()
            .map(|(name, q)| ((*name).to_owned(), times.value_at_quantile(*q).into()))
            .chain([("max".to_owned(), times.max().into())])
            .collect();
        let line = json!({
            "requests": times.len(), "failed": all.failed, "seconds": took.as_secs_f64(),
            "requests_per_second": per_second, "connections": args.connections, "rate": args.rate, "latency_us": us,
        });
        println!("{line}");
        return;
    }
    println!(
        "{} answered in {:.1} s, {} failed: {per_second:.0} requests/s{rows} over {} connections",
        times.len(),
        took.as_secs_f64(),
        all.failed,
        args.connections
    );
    let mut line = String::from("latency");
    for (name, quantile) in quantiles {
        line += &format!("  {name} {} µs", times.value_at_quantile(quantile));
    }
    println!("{line}  max {} µs", times.max());
}

/// An input, as `GET /v2/models/{m}` has it.
#[derive(Debug, Deserialize)]
struct Input {
    name: String,
    datatype: String,
    shape: Vec<i64>,
}

/// `GET /v2/models/{m}`, as far as it is needed here.
#[derive(Debug, Deserialize)]
struct Metadata {
    inputs: Vec<Input>,
}

async fn body(args: &BenchArgs) -> Result<Bytes, Failure> {
    if let Some(path) = &args.body {
        return std::fs::read(path)
            .map(Bytes::from)
            .map_err(|error| Failure::Failed(format!("{}: {error}", path.display())));
    }
    let mut client = args.client()?;
    let model = match &args.model {
        Some(model) => model.clone(),
        None => only(&answer_of(client.get("/v2/models").await?)?)?,
    };
    let metadata: Metadata = parse(&answer_of(client.get(&format!("/v2/models/{model}")).await?)?)?;
    let body = made_up(&model, &metadata.inputs, usize::from(args.rows), args.record);
    Ok(body.to_string().into())
}

fn only(body: &[u8]) -> Result<String, Failure> {
    #[derive(Deserialize)]
    struct Names {
        models: Vec<String>,
    }
    let mut names: Names = parse(body)?;
    match names.models.len() {
        0 => Err(Failure::failed("the gateway serves no model yet")),
        1 => Ok(names.models.swap_remove(0)),
        _ => Err(Failure::Usage(format!(
            "several models are served: add --model with one of {}",
            names.models.join(", ")
        ))),
    }
}

/// Rows that the model's inputs allow; whether they make sense to the model is another matter.
fn made_up(model: &str, inputs: &[Input], rows: usize, record: bool) -> Value {
    let value = |input: &Input| match input.datatype.as_str() {
        "BYTES" => json!("1"),
        "BOOL" => json!(true),
        kind if kind.starts_with("FP") => json!(0.5),
        _ => json!(1),
    };
    let is_column = |input: &Input| matches!(input.shape.as_slice(), [-1, 1]);
    if inputs.len() > 1 && inputs.iter().all(is_column) {
        let row: Map<String, Value> = inputs.iter().map(|input| (input.name.clone(), value(input))).collect();
        return json!({"model": model, "instances": vec![Value::Object(row); rows], "shadow": record});
    }
    let tensor = |input: &Input| {
        let free = input.shape.iter().skip(1).rev();
        let row = free.fold(value(input), |inner, size| {
            json!(vec![inner; usize::try_from(*size).unwrap_or(1)])
        });
        let is_batched = input.shape.first().is_none_or(|first| *first < 1);
        json!(vec![row; if is_batched { rows } else { 1 }])
    };
    let tensors: Map<String, Value> = inputs.iter().map(|input| (input.name.clone(), tensor(input))).collect();
    json!({"model": model, "inputs": tensors, "shadow": record})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(name: &str, datatype: &str, shape: &[i64]) -> Input {
        Input {
            name: name.into(),
            datatype: datatype.into(),
            shape: shape.to_vec(),
        }
    }

    #[test]
    fn bodies_have_the_shapes_of_the_inputs_and_stay_out_of_the_record() {
        let columns = [input("age", "FP32", &[-1, 1]), input("day", "BYTES", &[-1, 1])];
        let row = json!({"age": 0.5, "day": "1"});
        assert_eq!(
            made_up("m", &columns, 2, false),
            json!({"model": "m", "instances": [row, row], "shadow": false})
        );
        let tensors = [input("x", "FP32", &[-1, 2]), input("ids", "INT64", &[-1, -1])];
        assert_eq!(
            made_up("m", &tensors, 2, true),
            json!({"model": "m", "inputs": {"x": [[0.5, 0.5], [0.5, 0.5]], "ids": [[1], [1]]}, "shadow": true})
        );
    }

    #[test]
    fn times_are_bounded() {
        assert!(time("1ms").is_err() && time("2h").is_err() && time("10 rows").is_err());
        assert_eq!(time("5s"), Ok(Duration::from_secs(5)));
    }
}
