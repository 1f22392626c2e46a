//! Counters and histograms, printed as Prometheus reads them.
//!
//! 1. Labels come from closed sets (route patterns, status codes, database names):
//!    no request can make the number of series grow.
//! 2. Nothing a user wrote gets in here.

use parking_lot::Mutex;
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// Upper bounds of the latency buckets, in microseconds.
const BUCKETS_US: [u64; 12] =
    [100, 250, 500, 1_000, 2_500, 5_000, 10_000, 50_000, 100_000, 500_000, 1_000_000, 5_000_000];

#[derive(Debug, Default)]
struct Histogram {
    buckets: [u64; BUCKETS_US.len()],
    count: u64,
    sum_us: u64,
}

/// All that is counted.
#[derive(Debug, Default)]
pub struct Metrics {
    requests: Mutex<BTreeMap<(&'static str, String, u16), u64>>,
    latency: Mutex<BTreeMap<String, Histogram>>,
    /// Server-sent event streams open now.
    pub streams_open: AtomicU64,
    /// Live-query and change events sent.
    pub events_sent: AtomicU64,
    /// Queries over the slow-query threshold.
    pub slow_queries: AtomicU64,
    /// Requests turned away for lack or wrongness of a token.
    pub denied: AtomicU64,
    /// Rows sent in answers.
    pub rows_sent: AtomicU64,
}

impl Metrics {
    /// Counts one answered request under its route pattern.
    pub fn request(&self, method: &'static str, route: &str, status: u16, took: Duration) {
        *self.requests.lock().entry((method, route.to_owned(), status)).or_default() += 1;
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let mut latency = self.latency.lock();
        let h = latency.entry(route.to_owned()).or_default();
        h.count += 1;
        h.sum_us += us;
        if let Some(i) = BUCKETS_US.iter().position(|b| us <= *b) {
            h.buckets[i] += 1;
        }
    }

    /// The text of `GET /metrics`; `gauges` are read by the caller: name, help, labels, value.
    pub fn render(&self, gauges: &[(&str, &str, String, u64)]) -> String {
        let mut out = String::new();
        header(&mut out, "annals_http_requests_total", "counter", "Requests answered.");
        for ((method, route, status), n) in self.requests.lock().iter() {
            let _ = writeln!(
                out,
                "annals_http_requests_total{{method=\"{method}\",route=\"{route}\",status=\"{status}\"}} {n}"
            );
        }
        header(&mut out, "annals_http_request_seconds", "histogram", "Time to the head of the answer.");
        for (route, h) in self.latency.lock().iter() {
            let mut below = 0;
            for (bound, n) in BUCKETS_US.iter().zip(h.buckets) {
                below += n;
                let le = *bound as f64 / 1e6;
                let _ = writeln!(
                    out,
                    "annals_http_request_seconds_bucket{{route=\"{route}\",le=\"{le}\"}} {below}"
                );
            }
            let _ = writeln!(
                out,
                "annals_http_request_seconds_bucket{{route=\"{route}\",le=\"+Inf\"}} {count}\n\
                 annals_http_request_seconds_sum{{route=\"{route}\"}} {sum}\n\
                 annals_http_request_seconds_count{{route=\"{route}\"}} {count}",
                count = h.count,
                sum = h.sum_us as f64 / 1e6
            );
        }
        for (name, help, counter) in [
            ("annals_events_sent_total", "Server-sent events sent.", &self.events_sent),
            ("annals_slow_queries_total", "Queries over the slow-query threshold.", &self.slow_queries),
            ("annals_denied_total", "Requests without a valid token or scope.", &self.denied),
            ("annals_rows_sent_total", "Rows sent in answers.", &self.rows_sent),
        ] {
            header(&mut out, name, "counter", help);
            let _ = writeln!(out, "{name} {}", counter.load(Ordering::Relaxed));
        }
        header(&mut out, "annals_streams_open", "gauge", "Server-sent event streams open.");
        let _ = writeln!(out, "annals_streams_open {}", self.streams_open.load(Ordering::Relaxed));
        let mut last = "";
        for (name, help, labels, value) in gauges {
            if *name != last {
                header(&mut out, name, "gauge", help);
                last = name;
            }
            let _ = writeln!(out, "{name}{labels} {value}");
        }
        out
    }
}

fn header(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_add_up() {
        let m = Metrics::default();
        for us in [50, 200, 900, 9_000_000] {
            m.request("GET", "/x", 200, Duration::from_micros(us));
        }
        let text = m.render(&[("annals_basis_t", "Newest t.", "{db=\"a\"}".into(), 7)]);
        assert!(text.contains("annals_http_request_seconds_bucket{route=\"/x\",le=\"0.001\"} 3"));
        assert!(text.contains("annals_http_request_seconds_bucket{route=\"/x\",le=\"+Inf\"} 4"));
        assert!(text.contains("annals_basis_t{db=\"a\"} 7"));
    }
}
