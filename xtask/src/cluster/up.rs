//! `cluster up`: from whatever is there to a healthy cluster, by the shortest way that is sure.
//!
//! Healthy: nothing to do. Something died or is broken on purpose: mended in place. Everything died, the shape changed,
//! or mending failed: made anew, and the old cluster's data goes.

use std::{fs, path::Path, thread, time::Duration};

use anyhow::{Context, Result, bail};

use super::{
    Cluster,
    cgroup::Groups,
    control_plane, dns, down, fault,
    launch::Daemon,
    lock, network, node, pki,
    plan::{Folders, Node, Place},
    requirements,
    state::State,
    storage,
    tools::Tools,
};
use crate::{
    digest::Key,
    host, images,
    process::{output, run as run_command, write_atomically},
    progress::Step,
};

const PATIENCE: Duration = Duration::from_secs(90);
const DEFAULT_NODES: u8 = 3;

pub fn run(folders: Folders, nodes: Option<u8>) -> Result<()> {
    let _lock = lock(&folders.cache)?;
    requirements::ensure(requirements::CLUSTER)?;
    let tools = Tools::ensure(&folders.cache)?;
    let groups = Groups::find()?;
    down::refuse_foreign(&folders, &groups)?;

    let old = State::load(&folders);
    let nodes = nodes
        .or(old.as_ref().map(|state| state.nodes))
        .unwrap_or(DEFAULT_NODES);
    let fingerprint = fingerprint(&folders, &tools, nodes)?;
    let fresh = State::new(nodes, fingerprint.clone());
    let mut cluster = Cluster {
        folders,
        tools,
        groups,
        state: fresh.clone(),
    };
    match old {
        Some(old) if old.fingerprint == fingerprint && old.complete => {
            cluster.state = old;
            if cluster.is_healthy() {
                eprintln!("the cluster is healthy: {nodes} nodes");
                return Ok(());
            }
            if cluster.can_be_mended() {
                eprintln!("the cluster is not healthy: mending it");
                match cluster.mend() {
                    Ok(()) => return Ok(()),
                    Err(error) => eprintln!("mending failed ({error:#}): making the cluster anew"),
                }
            } else {
                eprintln!("the cluster's processes are gone: making it anew");
            }
        }
        Some(_) => eprintln!("another shape, newer programs or an unfinished start: making the cluster anew"),
        None => {}
    }
    cluster.state = fresh;
    cluster.create()
}

impl Cluster {
    fn create(&mut self) -> Result<()> {
        let begun = host::now();
        down::clear(&self.folders, &self.groups)?;
        host::ensure_disk_space(&self.folders.cache)?;
        down::claim(&self.folders)?;
        self.prepare_files()?;
        network::create(self.state.nodes)?;
        for place in Place::all(self.state.nodes) {
            self.groups.create(place)?;
        }
        self.state.save(&self.folders)?;
        self.bring_up()?;
        storage::check(self)?;
        self.state.complete = true;
        self.state.save(&self.folders)?;
        eprintln!(
            "the cluster is up after {:.1} s: {} nodes",
            begun.elapsed().as_secs_f64(),
            self.state.nodes
        );
        Ok(())
    }

    fn mend(&mut self) -> Result<()> {
        fault::heal_everything(self)?;
        self.bring_up()?;
        storage::check(self)
    }

    /// Mending starts single programs again; it needs the network, and at least one survivor that proves this is not
    /// the wreck of an earlier session.
    fn can_be_mended(&self) -> bool {
        let all_networks =
            Place::all(self.state.nodes).all(|place| network::existing().contains(&place.namespace()));
        all_networks && self.state.process("etcd").is_some() && self.state.process("apiserver").is_some()
    }

    /// All programs run, no fault is in force, nodes are Ready and DNS answers.
    pub fn is_healthy(&self) -> bool {
        let running = daemons(&self.folders, &self.tools, self.state.nodes)
            .iter()
            .all(|daemon| self.state.process(&daemon.name).is_some());
        running
            && fault::in_force(self).is_ok_and(|faults| faults.is_empty())
            && self.nodes_are_ready()
            && dns::check(Duration::from_secs(1)).is_ok()
            && self.ask(&["get", "storageclass", "local", "-o", "name"]).is_ok()
    }

    fn prepare_files(&self) -> Result<()> {
        let mut folders = vec![self.folders.cluster().join("log")];
        folders.extend(self.nodes().flat_map(|node| node::folders(&self.folders, node)));
        for folder in folders {
            fs::create_dir_all(&folder).with_context(|| format!("{} cannot be made", folder.display()))?;
        }
        for (path, contents) in files(&self.folders, &self.tools, self.state.nodes)? {
            write_atomically(&path, contents.as_bytes())?;
        }
        pki::create(&self.folders, self.state.nodes)
    }

    /// Starts what does not run and waits until the whole is ready.
    fn bring_up(&mut self) -> Result<()> {
        self.forget_the_dead();
        let pause = images::pause(&self.folders.cache)?;
        let (folders, tools, nodes) = (self.folders.clone(), self.tools.clone(), self.state.nodes);
        for daemon in control_plane::first(&folders, &tools) {
            self.start(&daemon)?;
        }
        // Meanwhile, because they need no API server.
        for node in Node::all(nodes) {
            self.start_runtime(node)?;
        }
        self.wait_for("the API server", |cluster| {
            cluster.ask(&["get", "--raw", "/readyz"]).map(drop)
        })?;
        for daemon in control_plane::second(&folders, &tools) {
            self.start(&daemon)?;
        }
        self.start(&dns::daemon(&folders, &tools))?;
        self.start(&storage::daemon(&folders, &tools))?;
        self.start(&node::proxy(&folders, &tools, Place::Control))?;
        for node in Node::all(nodes) {
            self.start_kubelet(node, &pause)?;
        }
        self.apply(&format!("{}---\n{}", dns::manifest(), storage::MANIFEST))?;
        self.wait_for("the nodes", |cluster| {
            cluster
                .nodes_are_ready()
                .then_some(())
                .context("not all nodes are Ready")
        })?;
        self.wait_for("cluster DNS", |_| dns::check(Duration::from_millis(500)))
    }

    /// Starts all of one node, as after a power loss.
    pub fn start_node(&mut self, node: Node) -> Result<()> {
        self.forget_the_dead();
        let pause = images::pause(&self.folders.cache)?;
        self.start_runtime(node)?;
        self.start_kubelet(node, &pause)
    }

    /// Starts the API server unless it runs; it answers a few seconds later.
    pub fn start_api_server(&mut self) -> Result<()> {
        self.forget_the_dead();
        let daemon = control_plane::api_server(&self.folders, &self.tools);
        self.start(&daemon)
    }

    /// What ended before is started again; only what ends from now on is an error.
    fn forget_the_dead(&mut self) {
        self.state.processes.retain(|_, process| process.is_alive());
    }

    fn start_runtime(&mut self, node: Node) -> Result<()> {
        let (folders, tools) = (self.folders.clone(), self.tools.clone());
        if self.state.process(&node::holder_name(node)).is_none() {
            // Without its holder the node's mounts are lost; what is left of it would see other mounts than what starts.
            self.groups.kill(Some(Place::Node(node)))?;
            self.forget_the_dead();
            self.start(&node::holder(&folders, node))?;
            self.wait_for_holder(node)?;
        }
        self.start(&node::containerd(&folders, &tools, node))?;
        self.start(&node::proxy(&folders, &tools, Place::Node(node)))
    }

    fn start_kubelet(&mut self, node: Node, pause: &Path) -> Result<()> {
        let what = format!("containerd of {}", node.name());
        self.wait_for(&what, |cluster| run_command(cluster.ctr(node).arg("version")))?;
        let present = output(self.ctr(node).args(["images", "ls", "-q"]))?;
        if !present.lines().any(|image| image == node::PAUSE_IMAGE) {
            run_command(self.ctr(node).args(["images", "import"]).arg(pause))
                .context("importing the pause image")?;
        }
        let kubelet = node::kubelet(&self.folders, &self.tools, node);
        self.start(&kubelet)
    }

    /// The holder has made its mounts when it has become `sleep`.
    fn wait_for_holder(&self, node: Node) -> Result<()> {
        let name = node::holder_name(node);
        self.wait_for(&name, |cluster| {
            let process = cluster
                .state
                .process(&name)
                .with_context(|| cluster.last_words(&name))?;
            let line = fs::read(format!("/proc/{}/cmdline", process.pid))?;
            line.starts_with(b"sleep")
                .then_some(())
                .context("its mounts are not made")
        })
    }

    fn nodes_are_ready(&self) -> bool {
        let path = r#"jsonpath={range .items[*]}{.status.conditions[?(@.type=="Ready")].status}{"\n"}{end}"#;
        let answer = self.ask(&["get", "nodes", "-o", path]).unwrap_or_default();
        answer.lines().count() == usize::from(self.state.nodes) && answer.lines().all(|line| line == "True")
    }

    /// Repeats a check until it passes. A program that ended meanwhile ends the wait, with its last words.
    fn wait_for(&self, what: &str, check: impl Fn(&Self) -> Result<()>) -> Result<()> {
        let _step = Step::begin(format!("waiting for {what}"));
        let deadline = host::now() + PATIENCE;
        loop {
            let Err(error) = check(self) else { return Ok(()) };
            if let Some((name, _)) = self
                .state
                .processes
                .iter()
                .find(|(_, process)| !process.is_alive())
            {
                bail!("waiting for {what}: {}", self.last_words(name));
            }
            if host::now() > deadline {
                return Err(error)
                    .with_context(|| format!("{what}: not ready within {} s", PATIENCE.as_secs()));
            }
            thread::sleep(Duration::from_millis(100));
        }
    }
}

/// Every program that a healthy cluster runs.
pub fn daemons(folders: &Folders, tools: &Tools, nodes: u8) -> Vec<Daemon> {
    let mut all = control_plane::first(folders, tools);
    all.extend(control_plane::second(folders, tools));
    all.extend([
        dns::daemon(folders, tools),
        storage::daemon(folders, tools),
        node::proxy(folders, tools, Place::Control),
    ]);
    for node in Node::all(nodes) {
        all.push(node::holder(folders, node));
        all.push(node::containerd(folders, tools, node));
        all.push(node::proxy(folders, tools, Place::Node(node)));
        all.push(node::kubelet(folders, tools, node));
    }
    all
}

fn files(folders: &Folders, tools: &Tools, nodes: u8) -> Result<Vec<(std::path::PathBuf, String)>> {
    let mut files = node::files(folders, tools, nodes)?;
    files.push((folders.cluster().join("Corefile"), dns::config(folders)));
    Ok(files)
}

/// Changes whenever a program, an argument or a configuration file does.
fn fingerprint(folders: &Folders, tools: &Tools, nodes: u8) -> Result<String> {
    let mut key = Key::default();
    for daemon in daemons(folders, tools, nodes) {
        key = key
            .text(&daemon.name, &daemon.words.join("\n"))
            .text("root", &format!("{:?}", daemon.root));
    }
    for (path, contents) in files(folders, tools, nodes)? {
        key = key.text(&path.to_string_lossy(), &contents);
    }
    Ok(key
        .text("manifests", &(dns::manifest() + storage::MANIFEST))
        .short())
}
