//! Generated JSON records that compress about five times, like a topic of events.

use std::fmt::Write as _;

/// A small fast generator; the same seed gives the same numbers.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

const CITIES: [&str; 12] = [
    "Amsterdam",
    "Berlin",
    "Chicago",
    "Dakar",
    "Edinburgh",
    "Fukuoka",
    "Gdansk",
    "Hanoi",
    "Istanbul",
    "Jakarta",
    "Kigali",
    "Lima",
];
const STATES: [&str; 4] = ["created", "paid", "shipped", "delivered"];

/// `len_bytes` of newline-separated records, the last one cut.
pub fn json_records(seed: u64, len_bytes: usize) -> Vec<u8> {
    let mut random = Random::new(seed);
    let mut records = String::with_capacity(len_bytes + 512);
    let mut offset = random.below(1 << 40);
    let mut time = 1_795_000_000_000 + random.below(1 << 30);
    while records.len() < len_bytes {
        offset += 1;
        time += random.below(40);
        let customer = random.below(50_000);
        let city = CITIES[usize::try_from(random.below(12)).unwrap()];
        let state = STATES[usize::try_from(random.below(4)).unwrap()];
        let cents = random.below(20_000);
        let trace = random.next();
        let session = (random.next(), random.next());
        writeln!(
            records,
            "{{\"offset\":{offset},\"timestamp\":{time},\"key\":\"customer-{customer:05}\",\"headers\":{{\"trace\":\"{trace:016x}\",\"session\":\"{:016x}{:016x}\",\
             \"content-type\":\"application/json\"}},\"value\":{{\"event\":\"order_{state}\",\"customer_id\":{customer},\
             \"city\":\"{city}\",\"currency\":\"EUR\",\"amount_cents\":{cents},\"items\":[{{\"sku\":\"SKU-{:06}\",\"quantity\":{}}}]}}}}",
            session.0,
            session.1,
            customer * 7 % 400_000,
            1 + cents % 5,
        )
        .unwrap();
    }
    records.truncate(len_bytes);
    records.into_bytes()
}
