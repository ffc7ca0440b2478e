//! What the integration tests share: a running gateway, and a client that sends exactly the bytes it is given.

pub(crate) mod client;

use std::net::SocketAddr;

/// A running gateway; it ends when this goes.
pub(crate) struct Gateway {
    /// Data listener.
    pub(crate) data: SocketAddr,
    /// Admin listener.
    pub(crate) admin: SocketAddr,
}

/// [`gateway_with`] the defaults and `max_rows = 100`, `max_body_bytes = "1MiB"`.
pub(crate) fn gateway() -> Gateway {
    gateway_with("max_rows = 100\nmax_body_bytes = \"1MiB\"\n")
}

/// Starts a gateway on free ports with this `dethrone.toml`, and waits until it is ready. It serves two models:
/// - `elec2`: `e01_logreg.onnx` (features `period`, `nswprice`, `nswdemand`, `vicprice`, `vicdemand`, `transfer` FP32
///   and `day` BYTES), with `unknown = "reject"`;
/// - `plain`: `e02_tree.onnx` with `interface = "tensors"` (input `features`, FP32, `[-1, 3]`).
pub(crate) fn gateway_with(_settings: &str) -> Gateway {
    todo!("start the gateway")
}
