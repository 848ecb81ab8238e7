//! The nodes through the library, and apps on them.

use std::fmt::Write as _;
use std::fs;
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use cc_ci_core::engine::{Engine as _, Inventory, Kind, Resource};
use cc_ci_core::event::{Reporter, Silent};
use cc_ci_core::names::Domain;
use cc_ci_docker::{Address, NodeAddress, Settings, SwarmEngine, TlsAddress};
use cc_ci_tests::engine::{Bystanders, Node, Nodes, Object, until};
use cc_ci_tests::{Ended, World, unconfined};

use crate::swarm::{EVERYWHERE, containers, volumes};

/// What a removal may take, where it is not to be cut short.
pub const LIMIT: Duration = Duration::from_mins(2);

/// Waits for a future, as a command does.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(future)
}

/// Where a worker's engine is reached over the network.
pub fn tls(node: &Node) -> Address {
    let [ca, certificate, key] = node.certificates().map(|path| fs::read_to_string(path).expect("PEM"));
    let (host, port) = (node.address().ip().to_string(), node.address().port());
    Address::Tls(TlsAddress::new(&host, port, &ca, &certificate, &key).expect("good certificates"))
}

/// A test's world on the nodes. What it leaves of its suffix is a failed test.
#[derive(Debug)]
pub struct OnNodes {
    pub nodes: Rc<Nodes>,
    pub world: World,
}

impl OnNodes {
    #[track_caller]
    pub fn new(test: &str) -> Option<Self> {
        let nodes = Rc::new(Nodes::shared(test)?);
        let world = World::on(nodes.manager());
        Some(Self { nodes, world })
    }

    /// Another host's on the same nodes: its locks, its records and its suffix are its own.
    pub fn another_host(&self) -> Self {
        Self { nodes: self.nodes.clone(), world: World::on(self.nodes.manager()) }
    }

    /// The library's view: the first worker by its socket, the second over the network.
    pub fn swarm(&self) -> SwarmEngine {
        self.swarm_that_tells(Arc::new(Silent))
    }

    /// The same, which tells what happens.
    pub fn swarm_that_tells(&self, reporter: Arc<dyn Reporter>) -> SwarmEngine {
        let named = |node: &Node, address| NodeAddress { name: node.name().to_owned(), address };
        let (first, second) = (self.nodes.worker(1), self.nodes.worker(2));
        let nodes = vec![named(first, Address::Unix(first.socket().to_owned())), named(second, tls(second))];
        self.telling(reporter).with_nodes(nodes)
    }

    /// The same, where no node is named.
    pub fn unnamed(&self) -> SwarmEngine {
        self.telling(Arc::new(Silent))
    }

    fn telling(&self, reporter: Arc<dyn Reporter>) -> SwarmEngine {
        let socket = self.nodes.manager().socket().to_owned();
        let (suffix, sources) = (self.world.suffix().clone(), Vec::new());
        SwarmEngine::new(Settings { socket, suffix, sources, reporter })
    }

    /// Has the commands of this world name the nodes likewise.
    pub fn configure(&self) {
        let (first, second) = (self.nodes.worker(1), self.nodes.worker(2));
        let mut text = format!("[nodes.worker-1]\nengine = \"{}\"\n", first.host());
        let _ = writeln!(text, "[nodes.worker-2]\nengine = \"tcp://{}\"", second.address());
        let files = ["ca_file", "cert_file", "key_file"];
        for (key, path) in files.into_iter().zip(second.certificates()) {
            let _ = writeln!(text, "{key} = \"{}\"", path.display());
        }
        fs::write(self.world.config(), unconfined(text)).expect("a configuration");
    }

    /// A run app that runs on each node, and has a volume on each.
    pub fn everywhere(&self, hex: &str) -> (Domain, String) {
        let domain: Domain = format!("a-{hex}.{}", self.world.suffix()).parse().expect("a domain");
        let stack = domain.stack().to_string();
        let manager = self.nodes.manager();
        manager.deploy(&stack, EVERYWHERE);
        until("it runs on each", || manager.running(&format!("{stack}_app")) == self.nodes.all().len());
        (domain, stack)
    }

    /// What others than this world have on each node.
    pub fn bystanders(&self) -> Vec<Bystanders> {
        self.look(|is_ours| !is_ours)
    }

    /// What is of this suffix on each node.
    pub fn of_this_suffix(&self) -> Vec<Bystanders> {
        self.look(|is_ours| is_ours)
    }

    /// What is on each node, by whether it is of this suffix. The Swarm forgets tasks a while after it was told to.
    fn look(&self, choose: impl Fn(bool) -> bool) -> Vec<Bystanders> {
        let suffix = self.world.suffix().as_str();
        let chosen = |object: &Object| choose(object.is_below(suffix)) && object.kind != "task";
        self.nodes.all().iter().map(|node| Bystanders::look_local(node, chosen)).collect()
    }

    /// One pass of the janitor.
    pub fn janitor(&self) -> Ended {
        self.world.cc_ci(["janitor", "--executor", "abra"]).run()
    }

    /// Asserts that nothing of the suffix is on any node.
    #[track_caller]
    pub fn assert_empty(&self) {
        let suffix = self.world.suffix().as_str();
        // What a host claims is its own for good.
        self.nodes.manager().try_docker(["config", "rm", &format!("cc-ci-lockspace-{suffix}")]);
        for node in self.nodes.all() {
            let all = if node.name() == "manager" { node.objects() } else { node.local_objects() };
            // The Swarm forgets tasks a while after it was told to.
            let left = all.iter().filter(|object| object.is_below(suffix) && object.kind != "task");
            let left: Vec<String> = left.map(ToString::to_string).collect();
            assert!(left.is_empty(), "left on {}: {left:?}", node.name());
        }
    }
}

/// What exists of one app.
pub fn inventory(swarm: &SwarmEngine, domain: &Domain) -> Inventory {
    block_on(swarm.inventory(Some(std::slice::from_ref(domain)))).expect("the Swarm can be looked at")
}

/// The names of the nodes that have something of a kind.
pub fn nodes_with(inventory: &Inventory, domain: &Domain, kind: Kind) -> Vec<String> {
    let found = inventory.of(domain).into_iter().filter(|resource| resource.kind == kind);
    let mut nodes: Vec<String> = found.filter_map(|resource| resource.node).collect();
    nodes.sort();
    nodes
}

/// What stands for a node that can't be seen.
pub fn unseen(node: &Node) -> Resource {
    Resource::new(Kind::UnseenNode, node.name())
}

/// Removes an app's stack and volumes by hand, on every node.
pub fn remove_by_hand(nodes: &Nodes, stack: &str) {
    crate::swarm::remove(nodes, stack);
    for node in nodes.all() {
        assert!(containers(node, stack).is_empty() && volumes(node, stack).is_empty());
    }
}
