//! What the bucket does with objects by itself. A rule by age may delete the only copy of truncated log entries.

use super::{Diagnosis, Doctor, Level};
use crate::store::{BucketError, LifecycleRule, Versioning};

const AREA: &str = "store";
const VERSIONING: &str = "versioning";
const LIFECYCLE: &str = "lifecycle";
/// Storage classes that are read like any other.
const READABLE: [&str; 4] = [
    "STANDARD_IA",
    "ONEZONE_IA",
    "INTELLIGENT_TIERING",
    "GLACIER_IR",
];

impl Doctor<'_> {
    /// Reads the bucket's settings, where there are such and it is allowed.
    pub async fn bucket(&self, diagnosis: &mut Diagnosis) {
        let store = self.catalog.store();
        let (Some(versioning), Some(lifecycle)) =
            (store.versioning().await, store.lifecycle().await)
        else {
            return;
        };
        let root = self.catalog.keys().root();
        let rules = lifecycle.map(|rules| {
            let concern = |rule: &LifecycleRule| {
                rule.prefix.starts_with(root) || root.starts_with(&rule.prefix)
            };
            rules.into_iter().filter(concern).collect::<Vec<_>>()
        });
        match &versioning {
            Ok(versioning) => tell_versioning(*versioning, rules.as_deref().ok(), root, diagnosis),
            Err(error) => unread(VERSIONING, error, "s3:GetBucketVersioning", diagnosis),
        }
        match &rules {
            Ok(rules) => tell_lifecycle(rules, root, diagnosis),
            Err(error) => unread(LIFECYCLE, error, "s3:GetLifecycleConfiguration", diagnosis),
        }
    }
}

fn unread(check: &'static str, error: &BucketError, permission: &str, diagnosis: &mut Diagnosis) {
    let fix = match error {
        BucketError::Denied => format!("allow {permission} to have it looked at"),
        BucketError::Unknown(_) => "nothing, if the server has no such thing".to_owned(),
        BucketError::Failed(_) => "see the detail".to_owned(),
    };
    diagnosis.bad(
        (AREA, check, Level::Unknown),
        format!("not read: {error}"),
        "a rule that deletes snapshots by their age, or keeps deleted ones, is not noticed",
        &fix,
    );
}

fn tell_versioning(
    versioning: Versioning,
    rules: Option<&[LifecycleRule]>,
    root: &str,
    diagnosis: &mut Diagnosis,
) {
    if versioning == Versioning::Off {
        let detail = "off: what is deleted is gone and takes no space";
        return diagnosis.ok(AREA, VERSIONING, detail.to_owned());
    }
    let Some(rules) = rules else {
        let detail = "on; whether old versions go is not known";
        return diagnosis.ok(AREA, VERSIONING, detail.to_owned());
    };
    if covering(rules, root).any(|rule| rule.expires_noncurrent) {
        let detail = "on, and a rule deletes old versions";
        return diagnosis.ok(AREA, VERSIONING, detail.to_owned());
    }
    diagnosis.bad(
        (AREA, VERSIONING, Level::Warning),
        "on, and no rule deletes old versions".to_owned(),
        "snapshots that retention deleted stay and are paid for",
        "add a rule with NoncurrentVersionExpiration for the prefix",
    );
}

fn tell_lifecycle(rules: &[LifecycleRule], root: &str, diagnosis: &mut Diagnosis) {
    let named = |rule: &LifecycleRule| format!("rule {:?} for {:?}", rule.id, rule.prefix);
    let mut sound = true;
    for rule in rules.iter().filter(|rule| rule.expires) {
        sound = false;
        diagnosis.bad(
            (AREA, LIFECYCLE, Level::Error),
            format!("{} deletes objects by their age", named(rule)),
            "snapshots that truncated logs rest on disappear, whatever their age",
            &format!("take {root:?} out of the rule: the sidecar deletes what nothing needs"),
        );
    }
    for rule in rules {
        let Some(class) = archive_of(rule) else {
            continue;
        };
        sound = false;
        diagnosis.bad(
            (AREA, LIFECYCLE, Level::Error),
            format!("{} moves objects to {class}", named(rule)),
            "snapshots cannot be read when a broker needs them",
            &format!("take {root:?} out of the rule"),
        );
    }
    if !covering(rules, root).any(|rule| rule.aborts_uploads) {
        return diagnosis.bad(
            (AREA, LIFECYCLE, Level::Warning),
            "no rule aborts uploads that were not completed".to_owned(),
            "parts that a killed process left are paid for",
            "add the rule of deploy/s3/lifecycle.json",
        );
    }
    if sound {
        let detail =
            "uploads that were not completed are aborted, and nothing is deleted by its age";
        diagnosis.ok(AREA, LIFECYCLE, detail.to_owned());
    }
}

/// Rules for everything of ours, not only for a part.
fn covering<'a>(rules: &'a [LifecycleRule], root: &str) -> impl Iterator<Item = &'a LifecycleRule> {
    rules
        .iter()
        .filter(move |rule| root.starts_with(&rule.prefix))
}

fn archive_of(rule: &LifecycleRule) -> Option<&str> {
    let mut classes = rule.moves_to.iter().map(String::as_str);
    classes.find(|class| !READABLE.contains(class))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(prefix: &str) -> LifecycleRule {
        LifecycleRule {
            id: "r".to_owned(),
            prefix: prefix.to_owned(),
            expires: false,
            moves_to: Vec::new(),
            expires_noncurrent: false,
            aborts_uploads: false,
        }
    }

    fn levels(tell: impl FnOnce(&mut Diagnosis)) -> Vec<Level> {
        let mut diagnosis = Diagnosis::default();
        tell(&mut diagnosis);
        diagnosis.findings.iter().map(|it| it.level).collect()
    }

    #[test]
    fn rules_by_age_are_errors_and_a_missing_abort_is_a_warning() {
        let of = |rules: &[LifecycleRule]| levels(|it| tell_lifecycle(rules, "p/", it));
        let mut abort = rule("");
        abort.aborts_uploads = true;
        let mut expires = rule("p/");
        expires.expires = true;
        let mut archives = rule("p/");
        archives.moves_to = ["STANDARD_IA", "DEEP_ARCHIVE"].map(str::to_owned).into();
        let mut cheaper = abort.clone();
        cheaper.moves_to = vec!["STANDARD_IA".to_owned()];
        assert_eq!(of(&[]), [Level::Warning]);
        assert_eq!(of(&[abort.clone()]), [Level::Ok]);
        let mut of_a_topic = abort.clone();
        of_a_topic.prefix = "p/orders/".to_owned();
        assert_eq!(of(&[of_a_topic]), [Level::Warning]);
        assert_eq!(of(&[cheaper]), [Level::Ok]);
        assert_eq!(of(&[abort.clone(), expires.clone()]), [Level::Error]);
        assert_eq!(of(&[abort, archives.clone()]), [Level::Error]);
        let all = [expires, archives];
        assert_eq!(of(&all), [Level::Error, Level::Error, Level::Warning]);
    }

    #[test]
    fn versions_need_a_rule_that_deletes_them() {
        let of = |rules: Option<&[LifecycleRule]>| {
            levels(|it| tell_versioning(Versioning::On, rules, "p/", it))
        };
        let mut noncurrent = rule("");
        noncurrent.expires_noncurrent = true;
        assert_eq!(of(Some(&[noncurrent])), [Level::Ok]);
        assert_eq!(of(Some(&[])), [Level::Warning]);
        assert_eq!(of(None), [Level::Ok]);
        let off = levels(|it| tell_versioning(Versioning::Off, Some(&[]), "p/", it));
        assert_eq!(off, [Level::Ok]);
    }
}
