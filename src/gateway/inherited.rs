//! Listening sockets that were opened before this process: by systemd (`LISTEN_FDS`), or by whoever does as it does.
//!
//! They stay open while processes come and go, so that who connects meanwhile waits instead of being refused. Their names
//! (`LISTEN_FDNAMES`, `FileDescriptorName=` of a socket unit) are those of our listeners; without names of ours they are
//! taken in the order data, grpc, admin, metrics. Those of a process that is taken over (`hand_over`) go before them.

use std::io;

use listenfd::ListenFd;
use tokio::net::TcpListener;

/// Names, in the order of sockets without a name.
const NAMES: [&str; 4] = ["data", "grpc", "admin", "metrics"];

/// See the module.
pub(super) struct Inherited {
    sockets: ListenFd,
    /// Of the process before this one, by name.
    handed: Vec<(String, std::net::TcpListener)>,
    /// The listener that each socket is for.
    uses: Vec<Option<&'static str>>,
}

impl Inherited {
    /// By the environment.
    ///
    /// # Errors
    /// More sockets than there are listeners, or two for one.
    pub(super) fn find() -> Result<Self, String> {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let sockets = ListenFd::from_env();
        let uses = uses(sockets.len(), &names)?;
        Ok(Self {
            sockets,
            handed: Vec::new(),
            uses,
        })
    }

    /// With the sockets of the process before this one.
    pub(super) fn with(self, handed: Vec<(String, std::net::TcpListener)>) -> Self {
        Self { handed, ..self }
    }

    /// True where there is a socket for a listener.
    pub(super) fn has(&self, listener: &str) -> bool {
        self.handed.iter().any(|(of, _)| of == listener) || self.uses.iter().flatten().any(|of| *of == listener)
    }

    /// The socket for a listener, where there is one.
    ///
    /// # Errors
    /// It is no listening TCP socket.
    pub(super) fn take(&mut self, listener: &str) -> io::Result<Option<TcpListener>> {
        if let Some(at) = self.handed.iter().position(|(of, _)| of == listener) {
            let (_, socket) = self.handed.swap_remove(at);
            socket.set_nonblocking(true)?;
            return TcpListener::from_std(socket).map(Some);
        }
        let Some(at) = self.uses.iter().position(|of| *of == Some(listener)) else {
            return Ok(None);
        };
        let Some(socket) = self.sockets.take_tcp_listener(at)? else {
            return Ok(None);
        };
        socket.set_nonblocking(true)?;
        TcpListener::from_std(socket).map(Some)
    }
}

/// Which listener each of so many sockets is for.
fn uses(sockets: usize, names: &str) -> Result<Vec<Option<&'static str>>, String> {
    let named: Vec<Option<&'static str>> = names
        .split(':')
        .map(|name| NAMES.into_iter().find(|known| *known == name))
        .take(sockets)
        .collect();
    let uses: Vec<Option<&'static str>> = match named.iter().any(Option::is_some) {
        true => named,
        false => NAMES.into_iter().map(Some).take(sockets).collect(),
    };
    let is_twice = NAMES
        .iter()
        .any(|name| uses.iter().filter(|of| **of == Some(*name)).count() > 1);
    if is_twice || uses.len() < sockets || uses.iter().any(Option::is_none) {
        return Err(format!(
            "{sockets} listening sockets were handed over under the names '{names}': hand over one each for some of {}",
            NAMES.join(", ")
        ));
    }
    Ok(uses)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_told_by_our_names_or_by_their_order_and_nothing_is_guessed() {
        let names = |sockets, names| uses(sockets, names).ok();
        assert_eq!(names(0, ""), Some(vec![]));
        assert_eq!(names(2, "admin:data"), Some(vec![Some("admin"), Some("data")]));
        assert_eq!(
            names(2, "dethrone.socket:dethrone.socket"),
            Some(vec![Some("data"), Some("grpc")])
        );
        assert_eq!(names(4, ""), Some(NAMES.map(Some).to_vec()));
        for (sockets, given) in [(5, ""), (2, "data:data"), (2, "data:web"), (3, "data:grpc")] {
            assert_eq!(names(sockets, given), None, "{given}");
        }
    }
}
