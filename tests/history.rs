//! What every history engine must do, as one suite; each engine runs all of it.

use reimzul::history::{self, Document, Find, History, HistoryError};
use reimzul::model::{Arch, Builder, Event, Limits, Size, Status};
use serde_json::json;

mod harness;

/// A history with nothing in it, and what it lives in.
struct Farm {
    history: History,
    _place: Box<dyn std::any::Any>,
}

impl Farm {
    fn sqlite() -> Farm {
        let folder = tempfile::tempdir().unwrap();
        let history = history::sqlite::History::open(&folder.path().join("history.db")).unwrap();
        Farm { history: History::Sqlite(history), _place: Box::new(folder) }
    }

    fn mongodb() -> Farm {
        let server = harness::mongodb::Server::shared();
        Farm { history: History::Mongodb(server.history()), _place: Box::new(server) }
    }
}

/// One test per engine and story.
macro_rules! conformance {
    ($($engine:ident)*: $stories:tt) => {
        $(conformance! { @ $engine $stories })*
    };
    (@ $engine:ident { $($story:ident,)* }) => {
        mod $engine {
            $(
                #[tokio::test]
                async fn $story() {
                    let farm = super::Farm::$engine();
                    super::$story(&farm.history).await;
                }
            )*
        }
    };
}

conformance! { sqlite mongodb: {
    an_event_comes_out_as_it_went_in,
    recording_an_event_again_changes_nothing,
    an_event_told_anew_by_another_builder_replaces_the_first,
    a_result_turns_its_building_into_done,
    a_building_that_arrives_after_its_result_is_done_at_once,
    a_builds_result_says_nothing_of_its_sibling_on_another_arch,
    the_newest_result_of_a_source_rpm_is_the_latest,
    every_arch_and_target_has_a_latest_of_its_own,
    two_spellings_of_an_arch_are_one_arch_and_each_stays_as_it_was,
    a_build_is_found_by_status_target_and_id,
    the_newest_come_first_and_no_more_than_asked_for,
    a_kicked_build_that_succeeds_replaces_its_failure,
    an_override_settles_the_latest_build_with_a_comment,
    an_override_of_nothing_is_an_error,
    a_new_build_ends_an_override,
    a_build_is_named_by_any_part_of_its_path_or_its_id,
    a_build_is_named_with_its_result_also_when_its_building_came_late,
    a_part_of_a_name_is_taken_as_it_is,
    events_of_old_workers_have_no_id_and_are_told_apart_by_path,
    several_tasks_record_at_the_same_time,
    a_late_result_of_an_older_build_is_not_the_latest,
    a_late_failure_does_not_undo_its_builds_success,
    fields_of_any_name_and_type_come_back_as_they_were,
    signs_of_life_are_kept_the_newest_of_each_worker,
} }

async fn an_event_comes_out_as_it_went_in(history: &History) {
    let mut fields = json(1, "Failed");
    fields["failure"] =
        json!({"class": "check", "phase": "check", "lines": ["FAIL: a"], "log": "build.log", "retry": false});
    fields["git_branch"] = json!("c9");
    let event: Event = serde_json::from_value(fields).unwrap();
    history.record(&event).await.unwrap();
    let found = all(history).await;
    assert_eq!(found, [Document { event, latest_build: Some(true), comment: None }]);
    let wire = serde_json::to_value(&found[0]).unwrap();
    assert_eq!((&wire["git_branch"], &wire["latest_build"]), (&json!("c9"), &json!(true)));
}

async fn recording_an_event_again_changes_nothing(history: &History) {
    for status in ["Building", "Success"] {
        history.record(&event(1, status)).await.unwrap();
    }
    history.record(&event(2, "Success")).await.unwrap();
    let before = all(history).await;
    for (build, status) in [(1, "Building"), (1, "Success"), (2, "Success")] {
        history.record(&event(build, status)).await.unwrap();
    }
    assert_eq!(all(history).await, before, "an old result became the latest again, or was stored twice");
}

async fn an_event_told_anew_by_another_builder_replaces_the_first(history: &History) {
    for status in ["Building", "Failed"] {
        history.record(&event(1, status)).await.unwrap();
        let anew = with(json(1, status), "builder_fqdn", "another");
        history.record(&anew).await.unwrap();
        assert_eq!(all(history).await[0].event.builder_fqdn, "another");
    }
    assert_eq!(statuses(&all(history).await), ["Failed", "Done"]);
}

async fn a_result_turns_its_building_into_done(history: &History) {
    history.record(&event(1, "Building")).await.unwrap();
    assert_eq!(statuses(&all(history).await), ["Building"]);
    history.record(&event(1, "Failed")).await.unwrap();
    assert_eq!(statuses(&all(history).await), ["Failed", "Done"]);
}

async fn a_building_that_arrives_after_its_result_is_done_at_once(history: &History) {
    history.record(&event(1, "Success")).await.unwrap();
    history.record(&event(1, "Building")).await.unwrap();
    assert_eq!(statuses(&all(history).await), ["Done", "Success"]);
    assert_eq!(statuses(&find(history, Find::default()).await), ["Success"], "it seems to build for ever");
}

async fn a_builds_result_says_nothing_of_its_sibling_on_another_arch(history: &History) {
    let sibling = |status: &str| with(json(1, status), "arch", "i386");
    history.record(&event(1, "Building")).await.unwrap();
    history.record(&sibling("Building")).await.unwrap();
    history.record(&sibling("Failed")).await.unwrap();
    assert_eq!(statuses(&all(history).await), ["Failed", "Done", "Building"]);
}

async fn the_newest_result_of_a_source_rpm_is_the_latest(history: &History) {
    for build in 1..=3 {
        history.record(&event(build, "Building")).await.unwrap();
        history.record(&event(build, if build == 2 { "Failed" } else { "Success" })).await.unwrap();
    }
    let latest = find(history, Find::default()).await;
    assert_eq!(latest.len(), 1);
    assert_eq!(latest[0].event.build_id, event(3, "Success").build_id);
    let former: Vec<Option<bool>> = all(history)
        .await
        .into_iter()
        .filter(|document| document.event.status.is_result())
        .map(|document| document.latest_build)
        .collect();
    assert_eq!(former, [Some(true), Some(false), Some(false)]);
}

async fn every_arch_and_target_has_a_latest_of_its_own(history: &History) {
    history.record(&event(1, "Success")).await.unwrap();
    history.record(&with(json(2, "Success"), "arch", "i386")).await.unwrap();
    history.record(&with(json(3, "Success"), "target", "c9.x86_64")).await.unwrap();
    history.record(&with(json(4, "Success"), "srpm", "other-1-1.src.rpm")).await.unwrap();
    assert_eq!(find(history, Find::default()).await.len(), 4);
}

async fn two_spellings_of_an_arch_are_one_arch_and_each_stays_as_it_was(history: &History) {
    for (build, arch) in [(1, "i686"), (2, "i386"), (3, "i686")] {
        history.record(&with(json(build, "Failed"), "arch", arch)).await.unwrap();
        let latest = find(history, Find::default()).await;
        assert_eq!((latest.len(), latest[0].event.arch.as_str()), (1, arch));
    }
    let (srpm, target) = ("hello-1-1.src.rpm".parse().unwrap(), "mini.x86_64".parse().unwrap());
    let settled = history.settle(&srpm, &target, Arch::I386, "so be it").await.unwrap();
    assert_eq!((settled.event.arch.as_str(), settled.event.timestamp.to_string()), ("i686", time(3)));
}

async fn a_build_is_found_by_status_target_and_id(history: &History) {
    history.record(&event(1, "Success")).await.unwrap();
    history.record(&with(json(2, "Building"), "target", "c9.x86_64")).await.unwrap();
    let by = |status: Option<Status>, target: Option<&str>| Find {
        status,
        target: target.map(|target| target.parse().unwrap()),
        ..Find::default()
    };
    let found = |find_by: Find| async move { statuses(&find(history, find_by).await) };
    assert_eq!(found(by(Some(Status::Success), None)).await, ["Success"]);
    assert_eq!(found(by(Some(Status::Building), None)).await, ["Building"]);
    assert_eq!(found(by(Some(Status::Failed), None)).await, Vec::<String>::new());
    assert_eq!(found(by(None, Some("c9.x86_64"))).await, ["Building"]);
    assert_eq!(found(by(Some(Status::Success), Some("c9.x86_64"))).await, Vec::<String>::new());
    let id = event(1, "Success").build_id;
    assert_eq!(found(Find { build_id: id, ..Find::default() }).await, ["Success"]);
}

async fn the_newest_come_first_and_no_more_than_asked_for(history: &History) {
    for build in 1..=5 {
        let name = format!("p{build}-1-1.src.rpm");
        history.record(&with(json(build, "Success"), "srpm", &name)).await.unwrap();
    }
    let names = |documents: Vec<Document>| -> Vec<String> {
        documents.into_iter().map(|document| document.event.srpm.to_string()).collect()
    };
    let two = find(history, Find { limit: 2, ..Find::default() }).await;
    assert_eq!(names(two), ["p5-1-1.src.rpm", "p4-1-1.src.rpm"]);
    assert_eq!(find(history, Find { limit: 0, ..Find::default() }).await.len(), 5, "0 is no limit");
}

async fn a_kicked_build_that_succeeds_replaces_its_failure(history: &History) {
    for status in ["Building", "Failed", "Building", "Success"] {
        history.record(&event(1, status)).await.unwrap();
    }
    assert_eq!(statuses(&find(history, Find::default()).await), ["Success"]);
    assert_eq!(statuses(&all(history).await), ["Success", "Failed", "Done"]);
}

async fn an_override_settles_the_latest_build_with_a_comment(history: &History) {
    history.record(&event(1, "Failed")).await.unwrap();
    history.record(&event(2, "Failed")).await.unwrap();
    let settled = settle(history, "built by hand").await.unwrap();
    assert_eq!(settled.event.build_id, event(2, "Failed").build_id);
    assert_eq!(statuses(&all(history).await), ["Override", "Failed"]);
    let found = find(history, Find { status: Some(Status::Override), ..Find::default() }).await;
    assert_eq!(found[0].comment.as_deref(), Some("built by hand"));
    assert_eq!(found, [settled]);
    assert_eq!(
        statuses(&find(history, Find { status: Some(Status::Failed), ..Find::default() }).await).len(),
        0
    );
    // Told again, it stays settled.
    history.record(&event(2, "Failed")).await.unwrap();
    assert_eq!(statuses(&all(history).await), ["Override", "Failed"]);
}

async fn an_override_of_nothing_is_an_error(history: &History) {
    history.record(&event(1, "Building")).await.unwrap();
    let refused = settle(history, "why").await.unwrap_err();
    assert!(matches!(refused, HistoryError::NothingToOverride { .. }));
    assert_eq!(
        refused.to_string(),
        "no latest build of hello-1-1.src.rpm for mini.x86_64 and arch x86_64 is in the history, so there is \
         nothing to override"
    );
}

async fn a_new_build_ends_an_override(history: &History) {
    history.record(&event(1, "Failed")).await.unwrap();
    settle(history, "later").await.unwrap();
    history.record(&event(2, "Success")).await.unwrap();
    assert_eq!(statuses(&find(history, Find::default()).await), ["Success"]);
    assert_eq!(statuses(&all(history).await), ["Success", "Override"]);
}

async fn a_build_is_named_by_any_part_of_its_path_or_its_id(history: &History) {
    history.record(&event(1, "Building")).await.unwrap();
    history.record(&event(1, "Success")).await.unwrap();
    history.record(&event(2, "Failed")).await.unwrap();
    let path = |build: u32| format!("mini.x86_64/hello/{}/1-1.x86_64", time(build));
    for part in [path(1), time(1), format!("{}/1-1", time(1)), id(1)] {
        let found = history.named(&part).await.unwrap();
        assert_eq!(found.len(), 1, "{part}");
        assert_eq!(found[0].event.path().to_string(), path(1));
        assert_eq!(found[0].event.status, Status::Success);
    }
    let both: Vec<String> =
        history.named("hello").await.unwrap().iter().map(|d| d.event.path().to_string()).collect();
    assert_eq!(both, [path(2), path(1)]);
    assert_eq!(history.named("hello-1-1").await.unwrap().len(), 2, "as its source RPM is named");
    assert_eq!(history.named("nothing").await.unwrap(), []);
}

async fn a_build_is_named_with_its_result_also_when_its_building_came_late(history: &History) {
    history.record(&event(1, "Failed")).await.unwrap();
    history.record(&event(1, "Building")).await.unwrap();
    let found = history.named(&time(1)).await.unwrap();
    assert_eq!(statuses(&found), ["Failed"]);
}

async fn a_part_of_a_name_is_taken_as_it_is(history: &History) {
    history.record(&event(1, "Success")).await.unwrap();
    for pattern in ["%", "h_llo", "hel*", "'", "HELLO"] {
        assert_eq!(history.named(pattern).await.unwrap(), [], "{pattern} is no part of its path");
    }
}

async fn events_of_old_workers_have_no_id_and_are_told_apart_by_path(history: &History) {
    let old = |build: u32, status: &str| {
        let mut fields = json(build, status);
        fields.as_object_mut().unwrap().remove("build_id");
        serde_json::from_value::<Event>(fields).unwrap()
    };
    for (build, status) in [(1, "Building"), (1, "Success"), (1, "Success"), (2, "Building")] {
        history.record(&old(build, status)).await.unwrap();
    }
    assert_eq!(statuses(&all(history).await), ["Building", "Success", "Done"]);
}

async fn several_tasks_record_at_the_same_time(history: &History) {
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..4 {
        let history = history.clone();
        tasks.spawn(async move {
            for build in 0..20 {
                // Everybody records the same, as notifiers do when a job is delivered again.
                history
                    .record(&event(build, if task % 2 == 0 { "Building" } else { "Success" }))
                    .await
                    .unwrap();
            }
        });
    }
    tasks.join_all().await;
    assert_eq!(all(history).await.len(), 40);
    assert_eq!(
        find(history, Find::default()).await.len(),
        1,
        "one latest build, and none that builds for ever"
    );
}

async fn a_late_result_of_an_older_build_is_not_the_latest(history: &History) {
    history.record(&event(2, "Success")).await.unwrap();
    history.record(&event(1, "Building")).await.unwrap();
    history.record(&event(1, "Failed")).await.unwrap();
    let latest = find(history, Find::default()).await;
    assert_eq!(
        (statuses(&latest), latest[0].event.build_id.clone()),
        (vec!["Success".into()], event(2, "Success").build_id)
    );
    assert_eq!(statuses(&all(history).await), ["Failed", "Done", "Success"]);
    let found = find(history, Find { status: Some(Status::Failed), ..Find::default() }).await;
    assert_eq!(found, [], "it is no latest build");
    assert_eq!(all(history).await[0].latest_build, Some(false));
}

async fn a_late_failure_does_not_undo_its_builds_success(history: &History) {
    for status in ["Building", "Success", "Failed"] {
        history.record(&event(1, status)).await.unwrap();
    }
    assert_eq!(statuses(&find(history, Find::default()).await), ["Success"]);
    assert_eq!(statuses(&history.named(&time(1)).await.unwrap()), ["Success"]);
}

async fn fields_of_any_name_and_type_come_back_as_they_were(history: &History) {
    let extra = json!({"$set": {"status": "x"}, "a.b": 1, "": null, "nul\u{0}": "x", "_id": 5, "path": ["p"], "event_key": "k",
        "comment": "c", "latest_build": "l", "carried": 1, "unusual": {"x": 1}, "big": u64::MAX, "small": i64::MIN, "real": 1.5, "nested": {"$x": [1, {"y.z": 2}]},
        "list": [1, "a", null, true, {"k": 1}], "id": {"$oid": "5f5f5f5f5f5f5f5f5f5f5f5f"}});
    let mut fields = json(1, "Building");
    fields.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    let event: Event = serde_json::from_value(fields).unwrap();
    history.record(&event).await.unwrap();
    history.record(&event).await.unwrap();
    let document = Document { event: event.clone(), latest_build: Some(true), comment: Some("ours".into()) };
    let shown = serde_json::to_value(&document).unwrap();
    assert_eq!((&shown["comment"], &shown["carried"]["comment"]), (&json!("ours"), &json!("c")));
    assert_eq!(all(history).await, [Document { event: event.clone(), latest_build: None, comment: None }]);
    // Told anew, with some of them gone.
    let anew = with(json(1, "Building"), "a.b", "c");
    history.record(&anew).await.unwrap();
    assert_eq!(all(history).await, [Document { event: anew, latest_build: None, comment: None }]);
}

async fn signs_of_life_are_kept_the_newest_of_each_worker(history: &History) {
    let sign = |builder: &str, worker: &str, time: i64, stopped: bool| Builder {
        builder: builder.into(),
        worker: worker.into(),
        machine: String::new(),
        arch: Arch::X86_64,
        tubes: vec!["x86_64".into()],
        slots: 1,
        running: Vec::new(),
        load: 0.5,
        free: Size(1 << 40),
        min_free: Size(0),
        limits: Limits::default(),
        takes_jobs: true,
        why_not: None,
        stopped,
        left_out: Vec::new(),
        time,
    };
    for (builder, worker, time, stopped) in
        [("b1", "1", 100, false), ("b1", "2", 101, false), ("b2", "1", 100, true), ("b1", "1", 90, true)]
    {
        history.heard_of(&sign(builder, worker, time, stopped)).await.unwrap();
    }
    let known = history.builders().await.unwrap();
    assert_eq!(known, [sign("b1", "1", 100, false), sign("b1", "2", 101, false), sign("b2", "1", 100, true)]);
    history.heard_of(&sign("b1", "2", 102, true)).await.unwrap();
    history.heard_of(&sign("b1", "1", 103, false)).await.unwrap();
    let known: Vec<_> =
        history.builders().await.unwrap().into_iter().map(|sign| sign.builder + &sign.worker).collect();
    assert_eq!(known, ["b11", "b21"], "who has stopped is forgotten once another gives a sign");
}

fn id(build: u32) -> String {
    format!("id{build}")
}

fn time(build: u32) -> String {
    format!("202611232044{build:02}")
}

/// An event of the `build`-th build of hello, as it is on the wire.
fn json(build: u32, status: &str) -> serde_json::Value {
    json!({"srpm": "hello-1-1.src.rpm", "arch": "x86_64", "target": "mini.x86_64", "disttag": "", "scratch": false,
        "submitter": "kb", "status": status, "builder_fqdn": "b1", "evr": "1-1", "pkgname": "hello",
        "timestamp": time(build), "build_id": id(build)})
}

fn event(build: u32, status: &str) -> Event {
    serde_json::from_value(json(build, status)).unwrap()
}

fn with(mut fields: serde_json::Value, field: &str, value: &str) -> Event {
    fields[field] = json!(value);
    serde_json::from_value(fields).unwrap()
}

async fn find(history: &History, find: Find) -> Vec<Document> {
    history.find(find).await.unwrap()
}

async fn all(history: &History) -> Vec<Document> {
    find(history, Find { all: true, ..Find::default() }).await
}

fn statuses(documents: &[Document]) -> Vec<String> {
    documents.iter().map(|document| document.event.status.to_string()).collect()
}

async fn settle(history: &History, comment: &str) -> Result<Document, HistoryError> {
    let (srpm, target) = ("hello-1-1.src.rpm".parse().unwrap(), "mini.x86_64".parse().unwrap());
    history.settle(&srpm, &target, Arch::X86_64, comment).await
}
