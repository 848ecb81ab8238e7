//! A private Swarm of several nodes: engines of their own, joined by a [switch](super::switch).
//!
//! Its owner has it as a [`PrivateSwarm`], and does what it is told through a socket; a suite has it as [`Nodes`], and
//! tells. The first node, `manager`, is the only manager, and the suites run in its network, as cc-ci runs on its host.
//! Unix sockets know of no network: a node that is cut off is out of reach by its address only.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Deref;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use super::certificates::{self, Authority};
use super::private::{Failure, PrivateEngine};
use super::switch::Switch;
use super::{Engine, holds, images, skip_for_want_of_nodes, sweep, until};
use crate::EVENT_LIMIT;
use crate::command::built;

/// The variable that names the nodes of the suites: `NAME=SOCKET`, with a blank between two.
pub const NODES: &str = "CCCI_TEST_NODES";
/// Where the owner takes words, beside the manager's socket.
const CONTROL: &str = "nodes.sock";
/// Where the daemons listen.
const PORT: u16 = 2376;

/// A Swarm of one's own, of several nodes. Dropping it ends it and waits for that; so does the owner's death, however
/// it dies.
#[derive(Debug)]
#[must_use = "dropping it ends the nodes"]
pub struct PrivateSwarm {
    nodes: Vec<Member>,
    // Last: the nodes go first.
    switch: Option<Switch>,
}

/// A node, as its owner has it.
#[derive(Debug)]
struct Member {
    name: String,
    engine: PrivateEngine,
    alive: bool,
    paused: bool,
    cut: bool,
}

/// What a node of this number is called, and where it listens.
fn place(number: usize) -> Result<(String, SocketAddr), Failure> {
    let name = if number == 0 { "manager".to_owned() } else { format!("worker-{number}") };
    // A network that no engine gives to anybody.
    let address = IpAddr::V4(Ipv4Addr::new(198, 18, 0, u8::try_from(number + 1)?));
    Ok((name, SocketAddr::new(address, PORT)))
}

impl PrivateSwarm {
    /// A Swarm of `count` nodes whose first processes are `program`, the command `private-engine`; the example app is
    /// beside it.
    ///
    /// # Errors
    /// When it can't be started. Nothing is left then.
    pub fn start_by(program: &Path, count: usize) -> Result<Self, Failure> {
        sweep()?;
        let switch = Switch::start(program)?;
        let authority = Authority::new()?;
        let start = |number| -> Result<Member, Failure> {
            let (name, address) = place(number)?;
            let mut engine = PrivateEngine::spawn(program, Some((&name, address)))?;
            switch.join(&name, engine.host_pid(), address.ip())?;
            authority.write(engine.directory(), address.ip())?;
            engine.tell("start")?;
            images::import(&engine, &program.with_file_name("note-keeper"))?;
            Ok(Member { name, engine, alive: true, paused: false, cut: false })
        };
        let started: Vec<Result<Member, Failure>> = thread::scope(|scope| {
            let start = &start;
            let starts: Vec<_> = (0..count).map(|number| scope.spawn(move || start(number))).collect();
            starts.into_iter().map(|start| start.join().unwrap_or_else(|_| Err("a panic".into()))).collect()
        });
        let nodes = started.into_iter().collect::<Result<_, _>>()?;
        let swarm = Self { nodes, switch: Some(switch) };
        swarm.found()?;
        Ok(swarm)
    }

    /// Makes the first one the manager, lets the others join, and makes the network `proxy`.
    fn found(&self) -> Result<(), Failure> {
        let (_, manager) = place(0)?;
        let [address, listen] = [manager.ip().to_string(), format!("{}:2377", manager.ip())];
        let first = self.manager();
        first.call(&["swarm", "init", "--advertise-addr", &address, "--listen-addr", &listen])?;
        let token = first.call(&["swarm", "join-token", "--quiet", "worker"])?;
        for (number, node) in self.nodes.iter().enumerate().skip(1) {
            let address = place(number)?.1.ip().to_string();
            node.engine.call(&["swarm", "join", "--advertise-addr", &address, "--token", &token, &listen])?;
        }
        // A node that is gone is called down after three of them: the suites wait for that.
        first.call(&["swarm", "update", "--dispatcher-heartbeat", "1s"])?;
        first.call(&["network", "create", "--driver", "overlay", "--attachable", "proxy"]).map(drop)
    }

    /// The manager's engine.
    pub fn manager(&self) -> &PrivateEngine {
        // It is never started without one.
        &self.nodes[0].engine
    }

    /// What [`NODES`] is for it.
    pub fn environment(&self) -> String {
        let pair = |node: &Member| format!("{}={}", node.name, node.engine.socket().display());
        self.nodes.iter().map(pair).collect::<Vec<_>>().join(" ")
    }

    /// Takes words from whoever has [`NODES`] in its environment, as long as this process lives.
    ///
    /// # Errors
    /// When there can be no socket.
    pub fn listen(swarm: &Arc<Mutex<Self>>) -> Result<(), Failure> {
        let socket = locked(swarm).manager().socket().with_file_name(CONTROL);
        let (listener, swarm) = (UnixListener::bind(socket)?, swarm.clone());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let mut line = String::new();
                if BufReader::new(&stream).read_line(&mut line).is_err() {
                    continue;
                }
                let (word, name) = line.trim().split_once(' ').unwrap_or((line.trim(), ""));
                let answer = match locked(&swarm).tell(word, name) {
                    Ok(()) => "ok".to_owned(),
                    Err(error) => format!("error: {}", error.to_string().replace('\n', "; ")),
                };
                // Who asked is gone.
                let _nobody = writeln!(&stream, "{answer}").is_err();
            }
        });
        Ok(())
    }

    /// Does something to the node `name`.
    fn tell(&mut self, word: &str, name: &str) -> Result<(), Failure> {
        if word == "restore" && name.is_empty() {
            return self.restore();
        }
        let node = self.nodes.iter_mut().find(|node| node.name == name);
        let node = node.ok_or_else(|| format!("there is no node {name:?}"))?;
        match word {
            "crash" | "kill" if node.alive => {
                node.engine.tell(word)?;
                (node.alive, node.paused) = (false, false);
            }
            "start" if !node.alive => {
                node.engine.tell("start")?;
                node.alive = true;
            }
            "pause" if node.alive && !node.paused => {
                node.engine.tell("stop")?;
                node.paused = true;
            }
            "resume" if node.paused => {
                node.engine.tell("cont")?;
                node.paused = false;
            }
            "cut" | "heal" if node.cut == (word == "heal") => {
                let switch = self.switch.as_ref().ok_or("the nodes are gone")?;
                switch.set(name, if word == "heal" { "up" } else { "down" })?;
                node.cut = word == "cut";
            }
            "crash" | "kill" | "start" | "pause" | "resume" | "cut" | "heal" => {
                return Err(format!("{word}: {name} is in another state").into());
            }
            _ => {
                return Err(
                    "the words are crash, kill, start, pause, resume, cut, heal, and restore alone".into()
                );
            }
        }
        Ok(())
    }

    /// Brings every node back.
    ///
    /// # Errors
    /// When one does not come back.
    pub fn restore(&mut self) -> Result<(), Failure> {
        let troubled: Vec<(String, Vec<&str>)> = self
            .nodes
            .iter()
            .map(|node| {
                let words = [("heal", node.cut), ("resume", node.paused), ("start", !node.alive)];
                (node.name.clone(), words.into_iter().filter_map(|(word, due)| due.then_some(word)).collect())
            })
            .collect();
        for (name, words) in troubled {
            for word in words {
                self.tell(word, &name)?;
            }
        }
        Ok(())
    }

    /// What is wrong with the nodes when a command is done, in words: one that the command did not bring back, and
    /// whatever is left on the workers. All of them are back afterwards.
    ///
    /// # Errors
    /// When one is gone, or does not come back.
    pub fn look(swarm: &Mutex<Self>) -> Result<Vec<String>, Failure> {
        let mut swarm = locked(swarm);
        if !swarm.nodes.iter().all(|node| node.engine.is_alive()) {
            return Err("a node ended before the command did".into());
        }
        let troubled = swarm.nodes.iter().filter(|node| node.cut || node.paused || !node.alive);
        let mut found: Vec<String> =
            troubled.map(|node| format!("{} was not brought back", node.name)).collect();
        swarm.restore()?;
        for node in swarm.nodes.iter().skip(1) {
            let mut left = Vec::new();
            // Tasks that the Swarm has just forgotten, and networks with them, go a moment later.
            holds(|| {
                left = node.engine.local_objects();
                // Nobody but a test removes a volume.
                left.iter().all(|object| object.kind == "volume")
            });
            found.extend(left.iter().map(|object| format!("left on {}: {object}", node.name)));
        }
        Ok(found)
    }

    /// Ends it, as dropping does, and tells what of it is left.
    ///
    /// # Errors
    /// When something is left.
    pub fn end(swarm: &Mutex<Self>) -> Result<(), Failure> {
        let (nodes, switch) = {
            let mut swarm = locked(swarm);
            (std::mem::take(&mut swarm.nodes), swarm.switch.take())
        };
        let ends = nodes.into_iter().map(|node| (node.name, node.engine.end()));
        let failed: Vec<String> =
            ends.filter_map(|(name, end)| end.err().map(|error| format!("{name}: {error}"))).collect();
        drop(switch);
        if failed.is_empty() { Ok(()) } else { Err(failed.join("; ").into()) }
    }
}

/// A poisoned one is as good: each word is done or not.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Tells the owner of the nodes in the environment to do something; with the node's name, or `restore` alone.
///
/// # Errors
/// When there are none, or it was not done.
pub fn tell_owner(words: &str) -> Result<(), Failure> {
    let nodes =
        std::env::var(NODES).map_err(|_| format!("{NODES} is not set: see `private-engine run --nodes`"))?;
    let manager = nodes.split([' ', '=']).nth(1).unwrap_or_default();
    tell(&Path::new(manager).with_file_name(CONTROL), words)
}

fn tell(control: &Path, words: &str) -> Result<(), Failure> {
    let mut stream = UnixStream::connect(control)?;
    stream.set_read_timeout(Some(EVENT_LIMIT))?;
    writeln!(stream, "{words}")?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer)?;
    match answer.trim() {
        "ok" => Ok(()),
        "" => Err(format!("{words}: the owner of the nodes is gone").into()),
        error => Err(format!("{words}: {}", error.trim_start_matches("error: ")).into()),
    }
}

/// A test that has the nodes to itself in this process: what is done to one of them, all of them feel.
static ALONE: Mutex<()> = Mutex::new(());

/// The nodes of the suites, and nobody else's as long as this lives. Dropping it brings every node back, and waits until
/// all of them take tasks.
#[derive(Debug)]
pub struct Nodes {
    nodes: Vec<Node>,
    _alone: MutexGuard<'static, ()>,
}

/// One node, as a suite has it.
#[derive(Debug, Clone)]
pub struct Node {
    name: String,
    address: SocketAddr,
    engine: Engine,
    control: PathBuf,
}

impl Deref for Node {
    type Target = Engine;
    fn deref(&self) -> &Engine {
        &self.engine
    }
}

impl Nodes {
    /// Those that `private-engine run --nodes` started; `None` where there are none, which is written as a skip.
    #[track_caller]
    pub fn shared(test: &str) -> Option<Self> {
        let Ok(nodes) = std::env::var(NODES) else {
            skip_for_want_of_nodes(test);
            return None;
        };
        let mut control = PathBuf::new();
        let nodes = nodes.split(' ').enumerate().map(|(number, pair)| {
            let (name, socket) = pair.split_once('=').expect("CCCI_TEST_NODES is NAME=SOCKET …");
            if number == 0 {
                control = Path::new(socket).with_file_name(CONTROL);
            }
            let (_, address) = place(number).expect("there are few nodes");
            let engine = Engine::at(socket.into());
            Node { name: name.to_owned(), address, engine, control: control.clone() }
        });
        Some(Self { nodes: nodes.collect(), _alone: locked(&ALONE) })
    }

    /// All of them, the manager first.
    pub fn all(&self) -> &[Node] {
        &self.nodes
    }

    /// The one manager.
    pub fn manager(&self) -> &Node {
        &self.nodes[0]
    }

    /// The worker of this number, from 1.
    pub fn worker(&self, number: usize) -> &Node {
        &self.nodes[number]
    }

    /// Waits until the Swarm calls `node` what is expected: `ready` or `down`.
    #[track_caller]
    pub fn until_state(&self, node: &Node, state: &str) {
        until(&format!("{} is {state}", node.name), || self.state(node).as_deref() == Some(state));
    }

    /// Lets a node that was removed from the Swarm join it again.
    #[track_caller]
    pub fn join(&self, node: &Node) {
        node.docker(["swarm", "leave", "--force"]);
        let token = self.manager().docker(["swarm", "join-token", "--quiet", "worker"]);
        let [here, manager] = [node, self.manager()].map(|node| node.address.ip().to_string());
        let manager = format!("{manager}:2377");
        node.docker(["swarm", "join", "--advertise-addr", &here, "--token", &token, &manager]);
        self.until_state(node, "ready");
    }

    /// What the Swarm says of a node; nothing while it has no leader.
    fn state(&self, node: &Node) -> Option<String> {
        let format = "{{.Status.State}}";
        let told = self.manager().try_docker(["node", "inspect", "--format", format, node.name()]);
        (told.code == 0).then(|| told.stdout.trim().to_owned())
    }

    /// Brings every node back, and waits until all of them take tasks.
    #[track_caller]
    pub fn restore(&self) {
        tell(&self.manager().control, "restore").expect("every node comes back");
        for node in &self.nodes {
            self.until_state(node, "ready");
            self.manager().docker(["node", "update", "--availability", "active", node.name()]);
        }
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        if thread::panicking() {
            // The next test wants them all the same.
            let _said = tell(&self.manager().control, "restore").map_err(|error| eprintln!("nodes: {error}"));
            return;
        }
        self.restore();
    }
}

impl Node {
    /// Its host name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where its daemon listens for those who show a certificate.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The authority's certificate, the client's, and the client's key.
    pub fn certificates(&self) -> [PathBuf; 3] {
        [certificates::CA, certificates::CLIENT, certificates::CLIENT_KEY]
            .map(|file| self.engine.socket().with_file_name(file))
    }

    /// Ends everything on it, as a power cut does. What is on its disk stays.
    #[track_caller]
    pub fn crash(&self) {
        self.tell("crash");
    }

    /// Starts its daemon again, and waits until that takes requests.
    #[track_caller]
    pub fn start(&self) {
        self.tell("start");
    }

    /// Stops its daemon in its tracks: it takes connections, and answers nothing.
    #[track_caller]
    pub fn pause(&self) {
        self.tell("pause");
    }

    /// Lets it go on.
    #[track_caller]
    pub fn resume(&self) {
        self.tell("resume");
    }

    /// Cuts it off from the others. Whatever runs on it goes on.
    #[track_caller]
    pub fn cut(&self) {
        self.tell("cut");
    }

    /// Lets it in again.
    #[track_caller]
    pub fn heal(&self) {
        self.tell("heal");
    }

    /// The command line that does what a word says, for a script that has nothing of the environment.
    pub fn words(&self, word: &str) -> String {
        let nodes = std::env::var(NODES).expect("there are nodes");
        format!("{NODES}='{nodes}' '{}' node {word} {}", built("private-engine").display(), self.name)
    }

    /// Does what a word says, as `private-engine node` does.
    #[track_caller]
    pub fn tell(&self, word: &str) {
        if let Err(error) = tell(&self.control, &format!("{word} {}", self.name)) {
            panic!("{error}");
        }
    }
}
