//! Which plans are refused, and how a plan is asked.

use super::{super::*, fixture};
use crate::raft::TopicPartition;

fn plan() -> RestorePlan {
    let (manifest, _) = fixture::example();
    fixture::plan_of(&manifest)
}

fn refused(change: impl FnOnce(&mut RestorePlan)) -> String {
    let mut plan = plan();
    change(&mut plan);
    plan.encode().unwrap_err().to_string()
}

#[test]
fn a_plan_knows_lives_of_partitions_and_nothing_else() {
    let plan = plan();
    let planned = &plan.partitions[0];
    assert_eq!(
        plan.find(&planned.partition, &planned.topic_id),
        Some(planned)
    );
    assert_eq!(plan.find(&planned.partition, "another life"), None);
    let other = TopicPartition::new("orders", 8).unwrap();
    assert_eq!(plan.find(&other, &planned.topic_id), None);
}

#[test]
fn plans_that_contradict_themselves_are_refused() {
    let twice = refused(|plan| plan.partitions.push(plan.partitions[0].clone()));
    assert!(twice.contains("ascending"), "{twice}");
    let other_life = refused(|plan| plan.partitions[0].topic_id = "other".to_owned());
    assert!(other_life.contains("hash of its lineage"), "{other_life}");
    let no_topic = refused(|plan| plan.partitions[0].partition.topic.clear());
    assert!(no_topic.contains("illegal"), "{no_topic}");
    let first_life = refused(|plan| plan.incarnation = 1);
    assert!(first_life.contains("from_incarnation"), "{first_life}");
    let no_life = refused(|plan| plan.incarnation = 0);
    assert!(no_life.contains("illegal"), "{no_life}");
    let negative = refused(|plan| plan.created_at_unix_ms = -1);
    assert!(negative.contains("not negative"), "{negative}");
}

#[test]
fn a_token_is_taken_only_as_it_was_printed() {
    let token = RestoreToken(plan().identity().unwrap());
    let text = token.to_string();
    assert_eq!(text.parse::<RestoreToken>().unwrap(), token);
    for wrong in [
        "",
        "2",
        "2.67e55044-10b1-426f-9247-bb680e5fe0c8",
        "2.67e55044-10b1-426f-9247-bb680e5fe0c8.",
        "0.67e55044-10b1-426f-9247-bb680e5fe0c8.prod-eu",
        "02.67e55044-10b1-426f-9247-bb680e5fe0c8.prod-eu",
        "2.67E55044-10B1-426F-9247-BB680E5FE0C8.prod-eu",
        "x.67e55044-10b1-426f-9247-bb680e5fe0c8.prod-eu",
    ] {
        assert!(wrong.parse::<RestoreToken>().is_err(), "{wrong}");
    }
}
