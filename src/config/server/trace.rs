//! What single requests are told of: spans for a collector, lines of log.

use std::time::Duration;

use super::super::reader::Section;
use super::ServeArgs;
use crate::trace::TraceConfig;

pub(super) fn read(s: &mut Section<'_>, args: &ServeArgs) -> TraceConfig {
    let is_share = |share: &f64| (0.0..=1.0).contains(share);
    let is_time = |time: &Duration| (Duration::from_millis(1)..=Duration::from_secs(3_600)).contains(time);
    TraceConfig {
        endpoint: ruled(
            s,
            args.trace_endpoint.clone(),
            "trace_endpoint",
            |url: &String| is_url(url),
            "must be an address that begins with http:// or https://, such as http://127.0.0.1:4318/v1/traces",
        ),
        sample: {
            let (rule, default) = ("must lie between 0 and 1", 0.01);
            let file = s.opt_if("trace_sample", is_share, rule);
            let flag = args.trace_sample;
            if flag.is_some_and(|share| !is_share(&share)) {
                s.fault("trace_sample", format!("flag or variable --trace-sample {rule}"));
            }
            let value = flag.or(file).unwrap_or(default);
            s.note("trace_sample", &value, flag.is_some());
            value
        },
        slow: ruled(
            s,
            args.slow_request,
            "slow_request",
            is_time,
            "must lie between 1ms and 1h",
        ),
    }
}

pub(super) fn is_url(url: &str) -> bool {
    let uri = url.parse::<http::Uri>();
    uri.is_ok_and(|uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some())
}

/// A setting that may be absent, with a rule.
fn ruled<T: super::super::value::Value + super::super::effective::Shown>(
    s: &mut Section<'_>,
    flag: Option<T>,
    key: &'static str,
    holds: impl Fn(&T) -> bool,
    rule: &str,
) -> Option<T> {
    let file = s.opt_if(key, &holds, rule);
    if flag.as_ref().is_some_and(|value| !holds(value)) {
        s.fault(key, format!("flag or variable --{} {rule}", key.replace('_', "-")));
    }
    let (given, value) = (flag.is_some(), flag.or(file));
    s.note(key, &value, given);
    value
}
