//! Lists that are longer than what one answer has.

use crate::forge::{Status, sha};
use crate::http::until;
use crate::place::{Place, end};

#[test]
fn a_push_is_seen_behind_a_long_talk() {
    let place = Place::new();
    {
        let mut forge = place.forge.lock();
        forge.pulls.get_mut(&1).unwrap().pushes.clear();
        for _ in 0..60 {
            forge.comment(1, "stranger", "what do you think?");
        }
        forge.comment(1, "maintainer", "!testme");
        forge.push(1, "b1");
    }
    let serving = place.serve();
    let text = place.told(1, "**Not started**");
    assert!(text.contains(&sha("b1")), "{text}");
    assert!(place.ci.lock().builds.is_empty());
    end(serving.process);
}

#[test]
fn a_request_is_found_where_the_forges_pages_are_short() {
    let place = Place::new();
    {
        let mut forge = place.forge.lock();
        forge.most = 20;
        for _ in 0..70 {
            forge.comment(2, "stranger", "what do you think?");
        }
        forge.comment(1, "maintainer", "!testme");
    }
    let serving = place.serve();
    place.build(1);
    end(serving.process);
}

#[test]
fn a_status_in_our_name_is_noticed_behind_many_others() {
    let place = Place::new();
    let serving = place.serve();
    place.ask(&serving, 1, "maintainer", "!testme");
    place.build(1);
    until("a pending status", || (place.forge.lock().states(1) == ["pending"]).then_some(()));
    let status = |context: String| Status {
        sha: sha("a1"),
        state: "success".to_owned(),
        context,
        creator: "maintainer".to_owned(),
    };
    {
        let mut forge = place.forge.lock();
        forge.statuses.push(status("cc-ci".to_owned()));
        forge.statuses.extend((0..60).map(|number| status(format!("another/{number}"))));
    }
    place.told(1, "**Beware**: `maintainer` posted a status in the name of this CI");
    end(serving.process);
}
