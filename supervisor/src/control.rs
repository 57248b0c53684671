//! The supervisor's socket: takes requests, answers them, and tells every watcher each change of state. It carries
//! out nothing itself; a request is handed to the state machine.

use std::{
    fs,
    io::{self, BufRead, BufReader, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
    sync::{Arc, Mutex, PoisonError, mpsc::Sender},
    thread,
};

use crate::{
    clock,
    hold::Marker,
    protocol::{Reply, Request, State},
    server::Event,
};

/// The current state and those who watch it.
#[derive(Debug, Clone)]
pub struct Watchers(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    state: State,
    streams: Vec<UnixStream>,
}

impl Watchers {
    /// Begins with `state` and nobody watching.
    pub fn new(state: State) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            state,
            streams: Vec::new(),
        })))
    }

    /// Sets the state and tells everybody. A watcher that does not read is dropped rather than waited for.
    pub fn publish(&self, state: State) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.state = state;
        let line = line(&Reply::State {
            state: inner.state.clone(),
        });
        inner.streams.retain_mut(|stream| stream.write_all(&line).is_ok());
    }

    /// True before anything can be asked: the volume may be another's.
    fn is_waiting(&self) -> bool {
        let inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        matches!(inner.state, State::Waiting { .. })
    }

    fn add(&self, mut stream: UnixStream) -> io::Result<()> {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        stream.write_all(&line(&Reply::State {
            state: inner.state.clone(),
        }))?;
        inner.streams.push(stream);
        Ok(())
    }
}

/// Listens at `path`, replacing what an earlier life left there, and passes requests to `events`.
pub fn listen(path: &Path, marker: &Marker, watchers: &Watchers, events: &Sender<Event>) -> io::Result<()> {
    if let Err(error) = fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let listener = UnixListener::bind(path)?;
    let (marker, watchers, events) = (marker.clone(), watchers.clone(), events.clone());
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (marker, watchers, events) = (marker.clone(), watchers.clone(), events.clone());
            thread::spawn(move || {
                // A client that goes away is an ordinary end.
                let _ = serve(&stream, &marker, &watchers, &events);
            });
        }
    });
    Ok(())
}

fn serve(
    stream: &UnixStream,
    marker: &Marker,
    watchers: &Watchers,
    events: &Sender<Event>,
) -> io::Result<()> {
    let mut answers = stream.try_clone()?;
    // Shared by all handles of the socket: the state machine must never wait for a reader.
    stream.set_write_timeout(Some(std::time::Duration::from_millis(50)))?;
    for text in BufReader::new(stream.try_clone()?).lines() {
        match serde_json::from_str::<Request>(&text?) {
            Ok(Request::Watch) => {
                answers.write_all(&line(&Reply::Done))?;
                watchers.add(stream.try_clone()?)?;
            }
            Ok(_) if watchers.is_waiting() => {
                let message = "the volume may still be used by another mysqld".to_owned();
                answers.write_all(&line(&Reply::Refused { message }))?;
            }
            // The disk may be frozen, so it is written here and not by the state machine.
            Ok(Request::HoldAfterEnd { hold: true }) if let Err(error) = marker.set() => {
                answers.write_all(&line(&Reply::Refused {
                    message: error.to_string(),
                }))?;
            }
            Ok(request) => {
                let (done, wait) = std::sync::mpsc::channel();
                if events.send(Event::Request(request, clock::now(), done)).is_ok() && wait.recv().is_ok() {
                    answers.write_all(&line(&Reply::Done))?;
                }
            }
            Err(error) => answers.write_all(&line(&Reply::Refused {
                message: error.to_string(),
            }))?,
        }
    }
    Ok(())
}

fn line(reply: &Reply) -> Vec<u8> {
    let mut bytes = serde_json::to_vec(reply).expect("plain enums with string and number fields serialise");
    bytes.push(b'\n');
    bytes
}
