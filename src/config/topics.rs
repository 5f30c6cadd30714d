//! Which topics the sidecar looks after.

use crate::raft::{METADATA_TOPIC, TOPIC_NAME_MAX_BYTES};

/// Included and excluded topics; exclusion wins.
///
/// `__meta` matches whatever the patterns say, unless it is excluded by its full name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicFilter {
    include: Vec<Pattern>,
    exclude: Vec<Pattern>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Pattern {
    Name(String),
    Beginning(String),
}

/// A pattern that is neither a topic name nor the beginning of one followed by `*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadPattern(pub String);

impl TopicFilter {
    /// Parses two comma-separated lists. Blanks around names and empty items are dropped.
    pub fn parse(include: &str, exclude: &str) -> Result<Self, BadPattern> {
        Ok(Self {
            include: parse_list(include)?,
            exclude: parse_list(exclude)?,
        })
    }

    /// True when the topic's partitions are to be snapshotted.
    pub fn matches(&self, topic: &str) -> bool {
        if topic == METADATA_TOPIC {
            return !self.exclude.contains(&Pattern::Name(topic.to_owned()));
        }
        let hit = |patterns: &[Pattern]| patterns.iter().any(|pattern| pattern.matches(topic));
        hit(&self.include) && !hit(&self.exclude)
    }
}

impl Pattern {
    fn matches(&self, topic: &str) -> bool {
        match self {
            Self::Name(name) => topic == name,
            Self::Beginning(beginning) => topic.starts_with(beginning),
        }
    }
}

/// Checks one list alone, so that each option gets its own fault.
pub(super) fn check_list(text: &str) -> Result<(), BadPattern> {
    parse_list(text).map(drop)
}

fn parse_list(text: &str) -> Result<Vec<Pattern>, BadPattern> {
    text.split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
        .map(parse_pattern)
        .collect()
}

fn parse_pattern(item: &str) -> Result<Pattern, BadPattern> {
    let (text, is_beginning) = match item.strip_suffix('*') {
        Some(beginning) => (beginning, true),
        None => (item, false),
    };
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    if text.len() > TOPIC_NAME_MAX_BYTES || !text.bytes().all(legal) {
        return Err(BadPattern(item.to_owned()));
    }
    let text = text.to_owned();
    Ok(if is_beginning {
        Pattern::Beginning(text)
    } else {
        Pattern::Name(text)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(include: &str, exclude: &str) -> TopicFilter {
        TopicFilter::parse(include, exclude).unwrap()
    }

    #[test]
    fn exclusion_wins_over_inclusion() {
        let filter = filter("orders*, billing", "orders-test*");
        assert!(
            filter.matches("orders") && filter.matches("orders-eu") && filter.matches("billing")
        );
        assert!(!filter.matches("orders-test-1") && !filter.matches("billing2"));
    }

    #[test]
    fn the_meta_group_is_left_out_by_its_full_name_only() {
        assert!(filter("orders", "").matches("__meta"));
        assert!(filter("*", "__*").matches("__meta"));
        assert!(filter("*", "*").matches("__meta"));
        assert!(!filter("*", "__meta").matches("__meta"));
    }

    #[test]
    fn a_star_belongs_at_the_end() {
        for bad in ["a*b", "*a", "a**", "a b", "ü"] {
            let refused = TopicFilter::parse(bad, "");
            assert_eq!(refused, Err(BadPattern(bad.into())));
        }
    }
}
