//! The closed loop: one thread over all connections, so that on few cores the load is not what is measured.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use super::super::Fallible;
use super::super::client::Answer;
use super::{Load, Outcome};

/// How often a held loop looks whether it may go on.
const HELD: Duration = Duration::from_millis(1);

struct Wire {
    stream: TcpStream,
    /// Which request is on its way, and how much of it has been written.
    request: usize,
    written: usize,
    sent: Instant,
    read: Vec<u8>,
    is_waiting: bool,
}

/// Asks over `connections` connections until the time is over, and takes the answers that are still due.
pub(crate) fn closed(address: SocketAddr, connections: usize, load: &Load<'_>) -> Fallible<Outcome> {
    let mut poll = Poll::new()?;
    let mut wires = Vec::with_capacity(connections);
    for at in 0..connections {
        // Connecting blocks: it is not measured.
        let stream = std::net::TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let mut stream = TcpStream::from_std(stream);
        poll.registry()
            .register(&mut stream, Token(at), Interest::READABLE | Interest::WRITABLE)?;
        wires.push(Wire {
            stream,
            request: at,
            written: 0,
            sent: Instant::now(),
            read: Vec::with_capacity(64 * 1024),
            is_waiting: false,
        });
    }
    run(&mut poll, &mut wires, load)
}

fn run(poll: &mut Poll, wires: &mut [Wire], load: &Load<'_>) -> Fallible<Outcome> {
    let mut outcome = Outcome::default();
    let mut events = Events::with_capacity(wires.len());
    let mut held: Vec<usize> = Vec::new();
    let begun = Instant::now();
    let end = begun + load.time;
    let is_held = || load.held.is_some_and(|held| held.load(Ordering::Relaxed));
    for wire in wires.iter_mut() {
        wire.send(load)?;
    }
    while wires.iter().any(|wire| wire.is_waiting) || !held.is_empty() {
        let timeout = if held.is_empty() { Duration::from_secs(30) } else { HELD };
        poll.poll(&mut events, Some(timeout))?;
        if events.is_empty() && held.is_empty() {
            return Err("no answer for half a minute".into());
        }
        for event in &events {
            let wire = &mut wires[event.token().0];
            if event.is_writable() && wire.is_waiting {
                wire.write(load)?;
            }
            if event.is_readable() && wire.receive(load, &mut outcome)? && Instant::now() < end {
                if is_held() {
                    held.push(event.token().0);
                } else {
                    wire.send(load)?;
                }
            }
        }
        if !held.is_empty() && (!is_held() || Instant::now() >= end) {
            for at in held.drain(..) {
                if Instant::now() < end {
                    wires[at].send(load)?;
                }
            }
        }
    }
    outcome.took = begun.elapsed();
    outcome.latencies.sort_unstable();
    Ok(outcome)
}

impl Wire {
    fn send(&mut self, load: &Load<'_>) -> Fallible<()> {
        self.request = (self.request + 1) % load.requests.len();
        self.written = 0;
        self.is_waiting = true;
        self.sent = Instant::now();
        self.write(load)
    }

    fn write(&mut self, load: &Load<'_>) -> Fallible<()> {
        let request = &load.requests[self.request];
        while self.written < request.len() {
            match self.stream.write(&request[self.written..]) {
                Ok(n) => self.written += n,
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }

    /// Reads what is there; true when the answer is whole.
    fn receive(&mut self, load: &Load<'_>, outcome: &mut Outcome) -> Fallible<bool> {
        loop {
            let from = self.read.len();
            self.read.resize(from + 16 * 1024, 0);
            let read = self.stream.read(&mut self.read[from..]);
            self.read.truncate(from + *read.as_ref().unwrap_or(&0));
            match read {
                Ok(0) => return Err("the server closed a connection".into()),
                Ok(_) => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(e) => return Err(e.into()),
            }
            if let Some(answer) = Answer::parse(&self.read)? {
                let body = &self.read[answer.body..answer.end];
                outcome.note(answer.status, body, self.sent.elapsed(), load.check);
                self.read.clear();
                self.is_waiting = false;
                return Ok(true);
            }
        }
    }
}
