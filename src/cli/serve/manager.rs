//! What the service manager is told: systemd's `sd_notify`, a datagram to the socket that `NOTIFY_SOCKET` names.
//!
//! Nothing is sent where there is no such variable, and a manager that does not listen stops nobody.

use std::ffi::OsString;
use std::os::unix::net::UnixDatagram;

/// The manager of this process, if it has one.
#[derive(Debug)]
pub(super) struct Manager(Option<OsString>);

impl Manager {
    /// By the environment.
    pub(super) fn find() -> Self {
        Self(std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()))
    }

    /// The listeners are bound: requests are answered, if only by "not ready".
    pub(super) fn ready(&self) {
        self.tell("READY=1\nSTATUS=serving");
    }

    /// The same, and this is the process to watch from now on: another one has handed over to it.
    pub(super) fn taken_over(&self) {
        self.tell(&format!("MAINPID={}\nREADY=1\nSTATUS=serving", std::process::id()));
    }

    /// The settings are read again; [`Manager::ready`] ends it.
    pub(super) fn reloading(&self) {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let us = now.tv_sec.saturating_mul(1_000_000).saturating_add(now.tv_nsec / 1_000);
        self.tell(&format!(
            "RELOADING=1\nMONOTONIC_USEC={us}\nSTATUS=reading the settings again"
        ));
    }

    /// A signal to stop has come.
    pub(super) fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=finishing what is in flight");
    }

    fn tell(&self, state: &str) {
        let Some(name) = &self.0 else { return };
        if let Err(error) = send(name, state.as_bytes()) {
            tracing::warn!(%error, socket = %name.display(), "the service manager cannot be told: check NOTIFY_SOCKET");
        }
    }
}

/// A name that begins with `@` is none of a file (Linux).
fn send(name: &OsString, state: &[u8]) -> std::io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    #[cfg(target_os = "linux")]
    if let Some(name) = name.as_encoded_bytes().strip_prefix(b"@") {
        use std::os::linux::net::SocketAddrExt as _;
        let address = std::os::unix::net::SocketAddr::from_abstract_name(name)?;
        return socket.send_to_addr(state, &address).map(drop);
    }
    socket.send_to(state, name).map(drop)
}
