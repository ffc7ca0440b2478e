//! Paths to routes, per listener. No admin route on the data listener, and the reverse.

use http::Method;

use crate::error::{Error, Kind};
use crate::protocol::{self, Action, Whose};

/// Which listener a request came in by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Face {
    /// Predictions, labels, health.
    Data,
    /// People and scrapes.
    Admin,
    /// Scrapes alone.
    Metrics,
}

impl Face {
    /// Its name in the line that tells the address.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::Admin => "admin",
            Self::Metrics => "metrics",
        }
    }
}

/// A model, and one of its versions where the path names it.
pub(crate) type Of = (String, Option<String>);

/// A route with what its path holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Route {
    Predict(Option<String>),
    Feedback,
    Server,
    OpenApi,
    Live,
    Ready,
    ModelReady(Of),
    ModelNames,
    Metadata(Of),
    Config(Of),
    /// Of one model, or of all.
    Statistics(Option<Of>),
    Infer(Of),
    Index,
    /// Load, or unload.
    Repository(String, bool),
    /// An extension of the protocol that is not there.
    NotOffered(&'static str),
    Metrics,
    Models,
    /// What is kept, over all models.
    Ledger,
    Model(String),
    Decisions(String),
    /// The versions of a model, where they come from and when they answered.
    Versions(String, protocol::Of),
    /// What the monitor sees.
    Monitor(String),
    /// What happened over a stretch of the record.
    Report(String),
    /// Rows drawn at random.
    Sample(String),
    /// Retrainings, and when the next may come.
    Retrainings(String),
    /// It is time to retrain, somebody says.
    Retrain(String),
    /// All that is held on a row or on an entity.
    Held(String, Whose),
    /// Rows that are to go.
    Erase(String),
    /// Ids are to be issued under a new key.
    RotateKey,
    /// One decision and all that it rested on.
    Decision(String, i64),
    Act(String, Action),
}

/// A request that has no route.
#[derive(Debug)]
pub(crate) struct NoRoute {
    pub(crate) error: Error,
    /// The methods that the path takes.
    pub(crate) allow: Option<&'static str>,
}

/// The route of a request.
pub(crate) fn find(face: Face, method: &Method, path: &str) -> Result<Route, NoRoute> {
    let (route, allow) = match face {
        Face::Data => data(path),
        Face::Admin => admin(path),
        Face::Metrics if path == "/metrics" => Ok((Route::Metrics, "GET")),
        Face::Metrics => Err(not_found(path)),
    }
    .map_err(|error| NoRoute { error, allow: None })?;
    let asked = if method == Method::HEAD { "GET" } else { method.as_str() };
    if asked == allow || matches!(route, Route::NotOffered(_)) {
        return Ok(route);
    }
    Err(NoRoute {
        error: Error::new(
            Kind::MethodNotAllowed,
            format!(
                "{} is not a method of this path: use {allow}",
                crate::decode::clip(method.as_str())
            ),
        ),
        allow: Some(allow),
    })
}

fn data(path: &str) -> Result<(Route, &'static str), Error> {
    Ok(match path {
        "/predict" => (Route::Predict(None), "POST"),
        "/feedback" => (Route::Feedback, "POST"),
        "/v2" | "/v2/" => (Route::Server, "GET"),
        "/openapi.json" => (Route::OpenApi, "GET"),
        "/v2/health/live" => (Route::Live, "GET"),
        "/v2/health/ready" => (Route::Ready, "GET"),
        _ => match *segments(path) {
            ["models", model, "predict"] => (Route::Predict(Some(decoded(model)?)), "POST"),
            ["v2", "models"] => (Route::ModelNames, "GET"),
            // Before the route of a model, which therefore cannot have this name.
            ["v2", "models", "stats"] => (Route::Statistics(None), "GET"),
            ["v2", "models", model] => (Route::Metadata((decoded(model)?, None)), "GET"),
            ["v2", "models", model, "versions", version] => {
                let of = (decoded(model)?, Some(decoded(version)?));
                (Route::Metadata(of), "GET")
            }
            ["v2", "models", model, what] => of_model(path, what, model, None)?,
            ["v2", "models", model, "versions", version, what] => of_model(path, what, model, Some(version))?,
            ["v2", "models", _, "trace", "setting"] | ["v2", "trace", "setting"] => not_offered("tracing by request"),
            ["v2", "repository", "index"] => (Route::Index, "POST"),
            ["v2", "repository", "models", model, "load"] => (Route::Repository(decoded(model)?, true), "POST"),
            ["v2", "repository", "models", model, "unload"] => (Route::Repository(decoded(model)?, false), "POST"),
            ["v2", "logging"] => not_offered("changing the logging"),
            ["v2", "systemsharedmemory" | "cudasharedmemory", ..] => not_offered("shared memory"),
            _ => return Err(not_found(path)),
        },
    })
}

fn admin(path: &str) -> Result<(Route, &'static str), Error> {
    Ok(match *segments(path) {
        ["metrics"] => (Route::Metrics, "GET"),
        ["api", "models"] => (Route::Models, "GET"),
        ["api", "ledger"] => (Route::Ledger, "GET"),
        ["api", "rotate-key"] => (Route::RotateKey, "POST"),
        ["api", "models", model] => (Route::Model(decoded(model)?), "GET"),
        ["api", "models", model, "decisions"] => (Route::Decisions(decoded(model)?), "GET"),
        ["api", "models", model, "monitor"] => (Route::Monitor(decoded(model)?), "GET"),
        ["api", "models", model, "report"] => (Route::Report(decoded(model)?), "GET"),
        ["api", "models", model, "sample"] => (Route::Sample(decoded(model)?), "GET"),
        ["api", "models", model, "retrainings"] => (Route::Retrainings(decoded(model)?), "GET"),
        ["api", "models", model, "retrain"] => (Route::Retrain(decoded(model)?), "POST"),
        ["api", "models", model, "decisions", n] => match n.parse() {
            Ok(n) => (Route::Decision(decoded(model)?, n), "GET"),
            Err(_) => return Err(not_found(path)),
        },
        ["api", "models", model, "versions"] => (Route::Versions(decoded(model)?, protocol::Of::All), "GET"),
        ["api", "models", model, "versions", version] => {
            let of = protocol::Of::One(decoded(version)?);
            (Route::Versions(decoded(model)?, of), "GET")
        }
        ["api", "models", model, "diff", a, b] => {
            let of = protocol::Of::Two([decoded(a)?, decoded(b)?]);
            (Route::Versions(decoded(model)?, of), "GET")
        }
        ["api", "models", model, "rows", id] => (Route::Held(decoded(model)?, Whose::Id(decoded(id)?)), "GET"),
        ["api", "models", model, "entities", name] => {
            (Route::Held(decoded(model)?, Whose::Entity(decoded(name)?)), "GET")
        }
        ["api", "models", model, "erase"] => (Route::Erase(decoded(model)?), "POST"),
        ["api", "models", model, action] => match Action::ALL.into_iter().find(|a| a.name() == action) {
            Some(action) => (Route::Act(decoded(model)?, action), "POST"),
            None => return Err(not_found(path)),
        },
        _ => return Err(not_found(path)),
    })
}

/// What is asked of a model or of a version.
fn of_model(path: &str, what: &str, model: &str, version: Option<&str>) -> Result<(Route, &'static str), Error> {
    let of = || -> Result<Of, Error> { Ok((decoded(model)?, version.map(decoded).transpose()?)) };
    Ok(match what {
        "ready" => (Route::ModelReady(of()?), "GET"),
        "config" => (Route::Config(of()?), "GET"),
        "stats" => (Route::Statistics(Some(of()?)), "GET"),
        "infer" => (Route::Infer(of()?), "POST"),
        "generate" | "generate_stream" => not_offered("the generate extension"),
        _ => return Err(not_found(path)),
    })
}

/// Any method: it is offered by none.
fn not_offered(what: &'static str) -> (Route, &'static str) {
    (Route::NotOffered(what), "")
}

/// The parts of a path. No route has more than six; what a path of ten thousand slashes has beyond is the seventh.
struct Segments<'a>([&'a str; 7], usize);

impl<'a> std::ops::Deref for Segments<'a> {
    type Target = [&'a str];

    fn deref(&self) -> &[&'a str] {
        self.0.get(..self.1).unwrap_or_default()
    }
}

fn segments(path: &str) -> Segments<'_> {
    let mut segments = Segments([""; 7], 0);
    let parts = path.strip_prefix('/').unwrap_or(path).splitn(7, '/');
    for (place, part) in segments.0.iter_mut().zip(parts) {
        *place = part;
        segments.1 += 1;
    }
    segments
}

fn not_found(path: &str) -> Error {
    let path = crate::decode::clip(path);
    Error::new(Kind::NotFound, format!("there is nothing at '{path}' on this listener"))
}

/// A path segment with its percent signs resolved.
pub(super) fn decoded(segment: &str) -> Result<String, Error> {
    let wrong = || {
        Error::new(
            Kind::BadRequest,
            "a name in the path is empty, or not percent-encoded UTF-8",
        )
    };
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|d| char::from(d).to_digit(16));
        let (high, low) = (digit().ok_or_else(wrong)?, digit().ok_or_else(wrong)?);
        bytes.push(u8::try_from(high * 16 + low).map_err(|_| wrong())?);
    }
    if bytes.is_empty() {
        return Err(wrong());
    }
    String::from_utf8(bytes).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(face: Face, method: Method, path: &str) -> &'static str {
        find(face, &method, path).map_or_else(|e| e.error.code(), |_| "found")
    }

    #[test]
    fn each_listener_has_its_own_routes_and_no_others() {
        let data = [
            (Method::POST, "/predict"),
            (Method::POST, "/models/a%20b/predict"),
            (Method::POST, "/feedback"),
            (Method::GET, "/v2"),
            (Method::HEAD, "/v2/"),
            (Method::GET, "/v2/health/live"),
            (Method::GET, "/v2/health/ready"),
            (Method::GET, "/v2/models/m/ready"),
            (Method::GET, "/v2/models/m/versions/e02/ready"),
            (Method::GET, "/v2/models"),
            (Method::GET, "/v2/models/stats"),
            (Method::GET, "/v2/models/a%20b"),
            (Method::GET, "/v2/models/m/versions/e02"),
            (Method::GET, "/v2/models/m/config"),
            (Method::GET, "/v2/models/m/versions/1/stats"),
            (Method::POST, "/v2/models/m/infer"),
            (Method::POST, "/v2/models/m/versions/2/infer"),
            (Method::POST, "/v2/repository/index"),
            (Method::POST, "/v2/repository/models/m/load"),
            (Method::POST, "/v2/repository/models/m/unload"),
            (Method::GET, "/openapi.json"),
        ];
        let admin = [
            (Method::GET, "/api/models"),
            (Method::GET, "/api/ledger"),
            (Method::POST, "/api/rotate-key"),
            (Method::GET, "/api/models/m"),
            (Method::GET, "/api/models/m/decisions"),
            (Method::GET, "/api/models/m/decisions/7"),
            (Method::GET, "/api/models/m/monitor"),
            (Method::GET, "/api/models/m/report"),
            (Method::GET, "/api/models/m/sample"),
            (Method::GET, "/api/models/m/retrainings"),
            (Method::POST, "/api/models/m/retrain"),
            (Method::GET, "/api/models/m/rows/order-17"),
            (Method::GET, "/api/models/m/entities/customer%209"),
            (Method::POST, "/api/models/m/erase"),
            (Method::POST, "/api/models/m/promote"),
            (Method::POST, "/api/models/m/retire"),
        ];
        for (method, path) in data {
            assert_eq!(code(Face::Data, method.clone(), path), "found", "{path}");
            assert_eq!(code(Face::Admin, method.clone(), path), "not_found", "{path}");
            assert_eq!(code(Face::Data, Method::DELETE, path), "method_not_allowed", "{path}");
        }
        for (method, path) in admin {
            assert_eq!(code(Face::Admin, method.clone(), path), "found", "{path}");
            assert_eq!(code(Face::Data, method.clone(), path), "not_found", "{path}");
            assert_eq!(code(Face::Metrics, method, path), "not_found", "{path}");
        }
        assert_eq!(code(Face::Metrics, Method::GET, "/metrics"), "found");
        assert_eq!(code(Face::Admin, Method::GET, "/metrics"), "found");
        assert_eq!(code(Face::Data, Method::GET, "/metrics"), "not_found");
        assert_eq!(code(Face::Data, Method::GET, &"/".repeat(100_000)), "not_found");
    }

    #[test]
    fn model_names_are_percent_decoded() {
        let route = find(Face::Data, &Method::POST, "/models/a%2Fb%C3%A4/predict").unwrap();
        assert_eq!(route, Route::Predict(Some("a/bä".into())));
        for path in [
            "/models/%/predict",
            "/models/%zz/predict",
            "/models/%ff/predict",
            "/models//predict",
        ] {
            assert_eq!(code(Face::Data, Method::POST, path), "bad_request", "{path}");
        }
    }
}
