//! How much the nodes are asked.

use std::sync::Arc;

use cc_ci_core::engine::Engine as _;
use cc_ci_core::event::Silent;
use cc_ci_core::names::Domain;
use cc_ci_docker::{Address, NodeAddress, Settings, SwarmEngine};
use cc_ci_tests::SocketTap;
use cc_ci_tests::engine::until;

use crate::support::{LIMIT, OnNodes, block_on, inventory};
use crate::swarm::EVERYWHERE;

/// What the manager and the workers are asked while `domain` is removed.
fn asked(test: &OnNodes, domain: &Domain, name: &str) -> Vec<Vec<String>> {
    let socket = |node: &str| test.world.path().join(format!("{name}-{node}.sock"));
    let taps: Vec<SocketTap> =
        test.nodes.all().iter().map(|node| SocketTap::between(node.socket(), socket(node.name()))).collect();
    let workers = test.nodes.all().iter().skip(1).map(|node| NodeAddress {
        name: node.name().to_owned(),
        address: Address::Unix(socket(node.name())),
    });
    let (suffix, reporter) = (test.world.suffix().clone(), Arc::new(Silent));
    let settings = Settings { socket: socket("manager"), suffix, sources: Vec::new(), reporter };
    let swarm = SwarmEngine::new(settings).with_nodes(workers.collect());
    block_on(swarm.remove(domain, LIMIT)).expect("everything can be removed");
    let asked = taps.iter().map(SocketTap::requests).collect();
    assert_eq!(inventory(&test.swarm(), domain).of(domain), []);
    asked
}

#[test]
fn an_app_over_three_nodes_costs_a_look_a_node_more_to_remove() {
    let Some(test) = OnNodes::new("an_app_over_three_nodes_costs_a_look_a_node_more_to_remove") else {
        return;
    };
    let (everywhere, _) = test.everywhere("012345");
    let here: Domain = format!("a-abcdef.{}", test.world.suffix()).parse().expect("a domain");
    let (stack, manager) = (here.stack().to_string(), test.nodes.manager());
    let placed = "      mode: global\n      placement: {constraints: [\"node.role == manager\"]}\n";
    manager.deploy(&stack, &EVERYWHERE.replace("      mode: global\n", placed));
    until("it runs", || manager.running(&format!("{stack}_app")) == 1);
    let one = asked(&test, &here, "one");
    let three = asked(&test, &everywhere, "three");
    for (name, asked, per_worker) in [("one", &one, 0), ("three", &three, 2)] {
        let of_kind =
            |kind: &str| asked[0].iter().filter(|path| path.split('?').next() == Some(kind)).count();
        let looks = of_kind("/services");
        assert!((2..=8).contains(&looks), "{name}: {looks} looks: {asked:#?}");
        // Until the Swarm has let go of it, the network is asked for.
        let waits = asked[0].iter().filter(|path| path.starts_with("/networks?filters=")).count();
        // Seven kinds, who it is, and which nodes there are; the service, its task's container and volume, and its network.
        let calls = asked[0].len() - waits - of_kind("/version");
        assert_eq!(calls, 9 * looks + 4, "{name}: {asked:#?}");
        for worker in &asked[1..] {
            // Once its version and who it is, three kinds a look, and its own container and volume.
            assert_eq!(worker.len(), 2 + 3 * looks + per_worker, "{name}: {asked:#?}");
        }
    }
    test.assert_empty();
}
