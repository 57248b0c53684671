//! The state machine of the supervisor: one thread, one channel of events, one mysqld.
//!
//! Only this module starts mysqld and sends it signals. It must not end mysqld by SIGTERM unless the agent said
//! that this is safe, and it must not end itself while there is something left to explain.

use std::{
    fs, io,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sys::{
        signal::{Signal, kill},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};
use signal_hook::{
    consts::{SIGCHLD, SIGINT, SIGTERM},
    iterator::Signals,
};

use crate::{
    claim::{self, Claim},
    clock,
    control::{self, Watchers},
    copied, death,
    hold::Marker,
    log::{self, Said, say},
    prepare::{self, Prepared},
    protocol::{Request, State},
    relay, sabotage, server_id,
};

/// A server that lives shorter than this counts towards the back-off.
const SHORT_LIFE: Duration = Duration::from_secs(5);
/// The longest pause between an end and the next start.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// How long a clean shutdown may take.
const CLEAN_SHUTDOWN: Duration = Duration::from_secs(8);
/// How long a killed mysqld may hang in the kernel before the supervisor leaves without it.
const AFTER_KILL: Duration = Duration::from_secs(3);
/// A server that has found damaged data and is silent for so long will not begin any more.
const SILENT_ON_DAMAGE: Duration = Duration::from_secs(30);
/// How often it is looked whether a server that begins is silent.
const LOOK: Duration = Duration::from_secs(5);
/// A wish to throw the data away holds for so long: half of what the agent waits.
const DISCARD_HOLDS: Duration = Duration::from_millis(500);
/// A data directory that could not be made is tried again after so long: the volume may have been full.
const PREPARE_AGAIN: Duration = Duration::from_secs(10);
/// How often it is looked whether the volume's other mysqld has ended.
const CLAIM_AGAIN: Duration = Duration::from_millis(100);
/// The rest of an ended server's log is waited for so long, where its words decide.
const LAST_WORDS: Duration = Duration::from_millis(200);
/// The status with which mysqld exits after it has caught a fatal signal of its own and written the stack to its log.
const CRASHED: i32 = 2;
/// Log codes that say that the data directory and the image do not fit together.
const WRONG_VERSION: [&str; 3] = ["MY-014060", "MY-014061", "MY-013171"];

/// Where everything is. The defaults are those of the pod; tests override them.
#[derive(Debug, Clone, clap::Args)]
pub struct Settings {
    /// mysqld, by name or path.
    #[arg(long, hide = true, default_value = "mysqld")]
    pub mysqld: PathBuf,
    /// The server's configuration.
    #[arg(long, hide = true, default_value = "/etc/ddb/config/my.cnf")]
    pub config: PathBuf,
    /// The data directory; the same as in the configuration.
    #[arg(long, hide = true, default_value = "/var/lib/ddb/mysql")]
    pub datadir: PathBuf,
    /// The image's prepared data directory, with the statements it was made with.
    #[arg(long, hide = true, default_value = "/opt/ddb/template")]
    pub template: PathBuf,
    /// A writable directory for passing files.
    #[arg(long, hide = true, default_value = "/tmp")]
    pub scratch: PathBuf,
    /// The supervisor's socket.
    #[arg(long, hide = true, default_value = "/run/ddb/supervisor.sock")]
    pub socket: PathBuf,
    /// The lock that mysqld puts beside its own socket, which the configuration names.
    #[arg(long, hide = true, default_value = "/run/ddb/mysql.sock.lock")]
    pub mysql_socket_lock: PathBuf,
    /// The node's name, shown in the source's list of replicas; the server's id is drawn from it.
    #[arg(long, hide = true, env = "DDB_NODE")]
    pub node: String,
}

/// Something that happened.
#[derive(Debug)]
pub enum Event {
    /// The supervisor got a signal.
    Signal(i32),
    /// This process has begun to die.
    Dying(Pid),
    /// A client asks, since then; the sender is told when it was carried out.
    Request(Request, Instant, Sender<()>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Initialise,
    Serve,
}

/// What becomes of mysqld when it has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AfterEnd {
    /// It is started again.
    Start,
    /// It stays down, where that was no clean end.
    Hold,
    /// Its data is thrown away, and it is started on a new data directory.
    Discard,
}

struct Child {
    pid: Pid,
    purpose: Purpose,
    since: Instant,
    said: Said,
    /// It was killed because it could not begin on its data.
    hopeless: bool,
}

struct Server {
    settings: Settings,
    events: Sender<Event>,
    watchers: Watchers,
    child: Option<Child>,
    starts: u64,
    short_lives: u32,
    term_allowed: bool,
    after_end: AfterEnd,
    marker: Marker,
    held: bool,
    /// When mysqld is to be started again.
    start_at: Option<Instant>,
    /// When a data directory is to be made.
    prepare_at: Option<Instant>,
    /// When it is looked whether mysqld hangs on damaged data.
    look_at: Option<Instant>,
    /// When mysqld gets SIGKILL after SIGTERM.
    kill_at: Option<Instant>,
    /// Set once the supervisor is to end: when it leaves at the latest.
    leave_at: Option<Instant>,
}

/// Runs until a signal ends it.
pub fn run(settings: Settings) -> io::Result<()> {
    let (sender, events) = channel();
    let mut signals = Signals::new([SIGCHLD, SIGTERM, SIGINT])?;
    let from_signals = sender.clone();
    thread::spawn(move || {
        for signal in signals.forever() {
            if from_signals.send(Event::Signal(signal)).is_err() {
                return;
            }
        }
    });
    let watchers = Watchers::new(State::Waiting {
        why: "The supervisor has just begun.".to_owned(),
    });
    if let Some(parent) = settings.socket.parent() {
        fs::create_dir_all(parent)?;
    }
    let marker = Marker::of(&settings.datadir);
    control::listen(&settings.socket, &marker, &watchers, &sender)?;
    let Some(_claim) = await_claim(&settings.datadir, &watchers, &events) else {
        return Ok(());
    };
    let mut server = Server {
        settings,
        events: sender,
        watchers,
        child: None,
        starts: 0,
        short_lives: 0,
        term_allowed: false,
        after_end: AfterEnd::Start,
        held: marker.is_set(),
        marker,
        start_at: None,
        prepare_at: None,
        look_at: None,
        kill_at: None,
        leave_at: None,
    };
    if server.held {
        server.watchers.publish(State::Held {
            how: "mysqld led when it ended, with its supervisor".to_owned(),
        });
    } else {
        server.prepare();
    }
    server.serve(&events);
    Ok(())
}

/// Waits until no other mysqld can run on the volume; `None` where a signal ends the waiting.
fn await_claim(datadir: &Path, watchers: &Watchers, events: &Receiver<Event>) -> Option<Claim> {
    let place = claim::of(datadir);
    let (mut said, mut attempts) = (None, 0);
    loop {
        let why = match Claim::take(&place).and_then(|claim| claim.map(Claim::inherited).transpose()) {
            Ok(Some(claim)) => return Some(claim),
            Ok(None) => {
                "Another mysqld still runs on this volume, of a pod that is ending; it is waited for."
                    .to_owned()
            }
            Err(error) => format!(
                "{} cannot be locked: {error}. Look at the volume and its permissions.",
                place.display()
            ),
        };
        attempts += 1;
        // The agent looks at the lock as well, for a moment.
        if attempts > 2 && said.as_ref() != Some(&why) {
            say(&why);
            watchers.publish(State::Waiting { why: why.clone() });
            said = Some(why);
        }
        match events.recv_timeout(CLAIM_AGAIN) {
            Ok(Event::Signal(SIGCHLD) | Event::Dying(_) | Event::Request(..))
            | Err(RecvTimeoutError::Timeout) => {}
            Ok(Event::Signal(_)) | Err(RecvTimeoutError::Disconnected) => return None,
        }
    }
}

impl Server {
    fn serve(&mut self, events: &Receiver<Event>) {
        loop {
            if self.leave_at.is_some() && self.child.is_none() {
                return;
            }
            let next = [
                self.start_at,
                self.prepare_at,
                self.look_at,
                self.kill_at,
                self.leave_at,
            ]
            .into_iter()
            .flatten()
            .min();
            let wait = next.map_or(Duration::from_hours(1), |at| {
                at.saturating_duration_since(clock::now())
            });
            match events.recv_timeout(wait) {
                Ok(Event::Signal(SIGCHLD)) => self.reap(),
                Ok(Event::Signal(_)) => self.leave(),
                Ok(Event::Dying(pid)) => {
                    let serves = |child: &Child| child.pid == pid && child.purpose == Purpose::Serve;
                    if self.child.as_ref().is_some_and(serves) {
                        self.watchers.publish(State::Ending);
                    }
                }
                Ok(Event::Request(request, since, done)) => {
                    // Whoever asked may have given up, and the data may be of use again.
                    let stale = request == Request::Discard && since.elapsed() > DISCARD_HOLDS;
                    if !stale {
                        self.obey(&request);
                    }
                    // A client that went away does not need to know.
                    let _ = done.send(());
                }
                Err(RecvTimeoutError::Timeout) => {
                    if self.timers() {
                        return;
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Does what is due; true when the supervisor has waited long enough and leaves.
    fn timers(&mut self) -> bool {
        let now = clock::now();
        if self.kill_at.is_some_and(|at| at <= now) {
            self.kill_at = None;
            say("mysqld did not end by itself: SIGKILL");
            self.signal(Signal::SIGKILL);
        }
        if self.start_at.is_some_and(|at| at <= now) {
            self.start_at = None;
            self.start();
        }
        if self.prepare_at.is_some_and(|at| at <= now) {
            self.prepare_at = None;
            self.prepare();
        }
        if self.look_at.is_some_and(|at| at <= now) {
            self.look_at = self.is_beginning().then_some(now + LOOK);
        }
        self.leave_at.is_some_and(|at| at <= now)
    }

    /// True while mysqld is not ready. One whose log speaks of damage may hang for ever instead of ending, and is ended.
    fn is_beginning(&mut self) -> bool {
        let Some(child) = self.child.as_mut().filter(|child| !child.said.is_ready()) else {
            return false;
        };
        let damage = child.said.speaks_of_damage() && !child.said.blames_what_is_around();
        if damage && child.said.silence() >= SILENT_ON_DAMAGE {
            child.hopeless = true;
            say("mysqld found damaged data and neither begins nor ends: SIGKILL");
            self.signal(Signal::SIGKILL);
            return false;
        }
        true
    }

    fn obey(&mut self, request: &Request) {
        match request {
            Request::Watch => {}
            Request::AllowTerm { allowed } => self.term_allowed = *allowed,
            Request::HoldAfterEnd { hold } => {
                self.after_end = match self.after_end {
                    AfterEnd::Discard => AfterEnd::Discard,
                    _ if *hold && self.child.is_some() => AfterEnd::Hold,
                    _ => AfterEnd::Start,
                };
                if self.after_end != AfterEnd::Hold && !self.held {
                    self.clear_marker();
                }
            }
            Request::Kill => {
                say("SIGKILL to mysqld as asked");
                self.short_lives = 0;
                self.signal(sabotage::hard_end());
            }
            Request::Hold => {
                self.held = true;
                self.start_at = None;
                match self.child {
                    Some(_) => self.signal(Signal::SIGKILL),
                    None => self.watchers.publish(State::Held {
                        how: "mysqld is kept down as asked".to_owned(),
                    }),
                }
            }
            Request::Start => {
                self.held = false;
                self.short_lives = 0;
                if self.child.is_none() && self.leave_at.is_none() {
                    (self.start_at, self.prepare_at) = (None, None);
                    self.prepare();
                }
            }
            Request::Discard => {
                (self.after_end, self.start_at, self.short_lives) = (AfterEnd::Discard, None, 0);
                match self.child {
                    Some(_) => self.signal(Signal::SIGKILL),
                    None => self.begin_anew(),
                }
                say("the data directory is thrown away as asked");
            }
        }
    }

    /// Throws the data directory away, while no mysqld runs. A new one is made when whoever asked has been answered.
    fn begin_anew(&mut self) {
        (self.held, self.after_end) = (false, AfterEnd::Start);
        match prepare::discard(&self.settings) {
            Ok(()) => self.prepare_at = self.leave_at.is_none().then(clock::now),
            Err(error) => self.fail(format!(
                "The data directory {} cannot be thrown away: {error}. Look at the volume and its permissions.",
                self.settings.datadir.display()
            )),
        }
    }

    /// Ends mysqld in the way that is safe now, and then the supervisor.
    fn leave(&mut self) {
        if self.leave_at.is_some() {
            return;
        }
        let now = clock::now();
        (self.start_at, self.prepare_at) = (None, None);
        let clean = self.term_allowed
            && self
                .child
                .as_ref()
                .is_some_and(|child| child.purpose == Purpose::Serve);
        if clean {
            say("told to end: SIGTERM to mysqld, which is fenced");
            self.signal(Signal::SIGTERM);
            self.kill_at = Some(now + CLEAN_SHUTDOWN);
            self.leave_at = Some(now + CLEAN_SHUTDOWN + AFTER_KILL);
        } else {
            say(
                "told to end: SIGKILL to mysqld, because a clean shutdown could acknowledge unreplicated commits",
            );
            self.signal(sabotage::hard_end());
            self.leave_at = Some(now + AFTER_KILL);
        }
    }

    fn signal(&self, signal: Signal) {
        let Some(child) = &self.child else { return };
        // It is our unreaped child, so the id cannot belong to another process; ESRCH means it just ended.
        if let Err(error) = kill(child.pid, signal)
            && error != Errno::ESRCH
        {
            say(&format!("cannot send {signal} to mysqld: {error}"));
        }
    }

    /// Collects every ended child; as process 1 of the container we inherit strangers too.
    fn reap(&mut self) {
        loop {
            let status = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return,
                Ok(status) => status,
                Err(Errno::EINTR) => continue,
                Err(error) => return say(&format!("waitpid: {error}")),
            };
            if status.pid().is_some() && status.pid() == self.child.as_ref().map(|child| child.pid) {
                self.ended(status);
            }
        }
    }

    fn ended(&mut self, status: WaitStatus) {
        let Some(child) = self.child.take() else { return };
        self.kill_at = None;
        // Status 16 is the wanted end of RESTART and CLONE.
        let clean = matches!(status, WaitStatus::Exited(_, 0 | 16));
        self.held |= self.after_end == AfterEnd::Hold && !clean;
        let mut how = match status {
            WaitStatus::Exited(_, code) => format!("exited with status {code}"),
            WaitStatus::Signaled(_, signal, _) => format!("killed by {signal}"),
            other => format!("{other:?}"),
        };
        let error = child.said.last();
        let gave_up = child.hopeless || gave_up(&status, &child.said);
        if let Some(error) = &error
            && (child.hopeless || matches!(status, WaitStatus::Exited(_, 1..)))
        {
            how = format!("{how}: {error}");
        }
        say(&format!("mysqld {how}"));
        if self.leave_at.is_some() {
            if self.after_end == AfterEnd::Discard {
                self.begin_anew();
            }
            return self.watchers.publish(State::Exited { how, gave_up });
        }
        match child.purpose {
            _ if self.after_end == AfterEnd::Discard => self.begin_anew(),
            Purpose::Initialise => self.initialised(&status, &how),
            Purpose::Serve if self.held => self.watchers.publish(State::Held {
                how: format!("mysqld {how}"),
            }),
            Purpose::Serve
                if error.is_some_and(|text| WRONG_VERSION.iter().any(|code| text.contains(code))) =>
            {
                self.fail(format!(
                    "The data of this node was written by a MySQL version that this image's server does not take \
                     over. Set spec.mysql back to the version that wrote it, or go by way of the releases in \
                     between. mysqld {how}"
                ));
            }
            Purpose::Serve => {
                self.watchers.publish(State::Exited { how, gave_up });
                self.start_again(child.since);
            }
        }
    }

    fn initialised(&mut self, status: &WaitStatus, how: &str) {
        let made = matches!(status, WaitStatus::Exited(_, 0));
        match made.then(|| prepare::finish(&self.settings)) {
            Some(Ok(())) => self.start(),
            Some(Err(error)) => self.fail_for_now(format!(
                "The new data directory cannot be put in its place: {error}. Look at the volume."
            )),
            None => self.fail_for_now(format!(
                "The data directory could not be made: mysqld --initialize-insecure {how}. Its log says more; most \
                 often a setting in spec.mysql.config is wrong or the volume is full."
            )),
        }
    }

    /// Says what is wrong with the making of a data directory, and tries it again later.
    fn fail_for_now(&mut self, why: String) {
        self.fail(why);
        self.prepare_at = Some(clock::now() + PREPARE_AGAIN);
    }

    fn start_again(&mut self, since: Instant) {
        let now = clock::now();
        if now.saturating_duration_since(since) >= SHORT_LIFE {
            self.short_lives = 0;
        } else {
            self.short_lives += 1;
        }
        // The first two ends are met at once: CLONE and a crash during recovery are ordinary.
        match self.short_lives {
            0..=2 => self.start(),
            lives => {
                let pause = Duration::from_millis(125) * 2_u32.saturating_pow(lives.min(10) - 2);
                self.start_at = Some(now + pause.min(LONGEST_PAUSE));
            }
        }
    }

    fn fail(&mut self, why: String) {
        say(&why);
        self.watchers.publish(State::Failed { why });
    }

    fn prepare(&mut self) {
        self.watchers.publish(State::Preparing);
        match prepare::begin(&self.settings) {
            Ok(Prepared::Ready) => self.start(),
            Ok(Prepared::Initialise(command)) => {
                say("making a new data directory");
                if let Some(pid) = self.spawn(*command, Purpose::Initialise) {
                    say(&format!("mysqld --initialize-insecure runs as process {pid}"));
                }
            }
            Err(error) => self.fail_for_now(format!(
                "The data directory {} cannot be prepared: {error}. Look at the volume and its permissions.",
                self.settings.datadir.display()
            )),
        }
    }

    fn start(&mut self) {
        let start = match clock::random_start() {
            Ok(start) => start,
            Err(error) => return self.fail(format!("There is no randomness to name a start by: {error}.")),
        };
        let mut command = Command::new(&self.settings.mysqld);
        command
            .arg(format!("--defaults-file={}", self.settings.config.display()))
            .arg(format!("--server-id={}", server_id::of(&self.settings.node)))
            .arg(format!("--report-host={}", self.settings.node))
            // Nothing else uses this variable, and it can be read and not be set.
            .arg(format!("--report-user={start}"))
            .args(sabotage::arguments())
            // With it CLONE and RESTART end with status 16, which says that the end was wanted.
            .env("MYSQLD_PARENT_PID", std::process::id().to_string());
        self.term_allowed = false;
        self.after_end = AfterEnd::Start;
        self.clear_marker();
        self.clear_socket_lock();
        match copied::forget_doublewrites(&self.settings.datadir) {
            Ok(0) => {}
            Ok(count) => say(&format!(
                "{count} doublewrite files of the data that was copied over are taken away"
            )),
            Err(error) => {
                return self.fail_for_now(format!(
                    "The copy in {} cannot be made ready: {error}. Look at the volume and its permissions.",
                    self.settings.datadir.display()
                ));
            }
        }
        self.mend_relay_logs();
        if let Some(pid) = self.spawn(command, Purpose::Serve) {
            self.starts += 1;
            self.look_at = Some(clock::now() + LOOK);
            self.watchers.publish(State::Running {
                pid: pid.as_raw(),
                starts: self.starts,
            });
        }
    }

    fn clear_marker(&self) {
        if let Err(error) = self.marker.clear() {
            say(&format!(
                "the marker that keeps mysqld down cannot be taken away: {error}"
            ));
        }
    }

    /// Takes away the lock on mysqld's own socket that a killed life left. It names a process number, which in a
    /// container that began anew can be a thread of ours, and mysqld would refuse to start for ever. Nobody else starts
    /// mysqld here and none runs, so the lock is nobody's.
    fn clear_socket_lock(&self) {
        if let Err(error) = fs::remove_file(&self.settings.mysql_socket_lock)
            && error.kind() != io::ErrorKind::NotFound
        {
            say(&format!(
                "{} cannot be taken away: {error}",
                self.settings.mysql_socket_lock.display()
            ));
        }
    }

    /// A log that cannot be mended may hold the applier up, and its server can do everything else.
    fn mend_relay_logs(&self) {
        let tell = |half: &relay::Half| {
            say(&format!(
                "half a transaction was taken off the end of {}, which ends at {} now",
                half.log.display(),
                half.end
            ));
        };
        if let Err(error) = relay::mend(&self.settings.datadir, tell) {
            say(&format!("the relay logs are left as they are: {error}"));
        }
    }

    /// Starts mysqld in a process group of its own, so that no signal meant for ours reaches it.
    fn spawn(&mut self, mut command: Command, purpose: Purpose) -> Option<Pid> {
        command
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0);
        match command.spawn() {
            Ok(mut process) => {
                let pid = Pid::from_raw(i32::try_from(process.id()).expect("Linux process ids fit into i32"));
                let events = self.events.clone();
                death::watch(pid.as_raw(), move || {
                    // A supervisor that is ending no longer needs to know.
                    let _ = events.send(Event::Dying(pid));
                });
                let said = process.stderr.take().map(log::pass_on).unwrap_or_default();
                self.child = Some(Child {
                    pid,
                    purpose,
                    since: clock::now(),
                    said,
                    hopeless: false,
                });
                Some(pid)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.fail(format!(
                    "The image of the MySQL container has no `{}`. Set spec.mysql.image to an image with a MySQL \
                     server, for example the official mysql:9.7.",
                    self.settings.mysqld.display()
                ));
                None
            }
            Err(error) => {
                self.fail(format!(
                    "`{}` cannot be run: {error}. The image must hold a MySQL server for this machine's processor.",
                    self.settings.mysqld.display()
                ));
                None
            }
        }
    }
}

/// True where mysqld ended itself and neither its configuration nor what is around it is known to be why: an assertion
/// or a crash of its own code, or an exit of which its log says that data is damaged.
fn gave_up(status: &WaitStatus, said: &Said) -> bool {
    let by_itself = match status {
        WaitStatus::Signaled(_, signal, _) => matches!(
            signal,
            Signal::SIGABRT | Signal::SIGSEGV | Signal::SIGBUS | Signal::SIGILL | Signal::SIGFPE
        ),
        WaitStatus::Exited(_, CRASHED) => true,
        WaitStatus::Exited(_, 1) => said.speaks_of_damage(),
        _ => false,
    };
    if by_itself {
        said.await_end(LAST_WORDS);
    }
    by_itself && !said.blames_what_is_around()
}

#[cfg(test)]
impl Settings {
    /// Everything below one directory.
    pub fn for_tests(root: &std::path::Path) -> Self {
        Self {
            mysqld: root.join("mysqld"),
            config: root.join("my.cnf"),
            datadir: root.join("mysql"),
            template: root.join("template"),
            scratch: root.to_path_buf(),
            socket: root.join("supervisor.sock"),
            mysql_socket_lock: root.join("mysql.sock.lock"),
            node: "shop-0".to_owned(),
        }
    }
}
