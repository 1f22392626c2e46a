//! The console's files, served from the binary. Nothing is fetched from elsewhere,
//! and the policy sent along forbids trying.

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use std::sync::LazyLock;

struct File {
    path: &'static str,
    media: &'static str,
    text: &'static str,
}

macro_rules! files {
    ($($path:literal $media:literal;)+) => {
        &[$(File { path: $path, media: $media, text: include_str!(concat!("../console/", $path)) }),+]
    };
}

const HTML: &str = "text/html; charset=utf-8";

static FILES: &[File] = files! {
    "index.html" "text/html; charset=utf-8";
    "app.css" "text/css; charset=utf-8";
    "icon.svg" "image/svg+xml";
    "js/main.js" "text/javascript; charset=utf-8";
    "js/api.js" "text/javascript; charset=utf-8";
    "js/dom.js" "text/javascript; charset=utf-8";
    "js/edn.js" "text/javascript; charset=utf-8";
    "js/editor.js" "text/javascript; charset=utf-8";
    "js/results.js" "text/javascript; charset=utf-8";
    "js/names.js" "text/javascript; charset=utf-8";
    "js/timeline.js" "text/javascript; charset=utf-8";
    "js/pages/query.js" "text/javascript; charset=utf-8";
    "js/pages/log.js" "text/javascript; charset=utf-8";
    "js/pages/entity.js" "text/javascript; charset=utf-8";
    "js/pages/streams.js" "text/javascript; charset=utf-8";
    "js/pages/projections.js" "text/javascript; charset=utf-8";
    "js/pages/schema.js" "text/javascript; charset=utf-8";
};

/// What a page of ours may load: our own files, nothing inline, no frames.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
    base-uri 'none'; form-action 'self'; frame-ancestors 'none'; require-trusted-types-for 'script'";

static TAG: LazyLock<String> = LazyLock::new(|| {
    let mut hash = blake3::Hasher::new();
    for f in FILES {
        hash.update(f.path.as_bytes());
        hash.update(f.text.as_bytes());
    }
    format!("\"{}\"", &hash.finalize().to_hex()[..16])
});

/// A file of the console, or None.
pub fn file(path: &str, request: &HeaderMap) -> Option<Response> {
    let file = FILES.iter().find(|f| f.path == path)?;
    let mut response = if crate::answer::none_match(request, &TAG) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        Response::new(Body::from(file.text))
    };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(file.media));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if let Ok(tag) = HeaderValue::from_str(&TAG) {
        headers.insert(header::ETAG, tag);
    }
    if file.media == HTML {
        headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
        headers.insert("cross-origin-opener-policy", HeaderValue::from_static("same-origin"));
    }
    Some(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_loads_nothing_that_is_not_here() {
        let index = FILES[0].text;
        assert!(!index.contains("http://") && !index.contains("https://") && !index.contains("style="));
        for f in FILES.iter().filter(|f| f.path.ends_with(".js")) {
            for part in f.text.split("from \"").skip(1) {
                let name = part.split('"').next().unwrap();
                let base = f.path.rsplit_once('/').unwrap().0;
                let full = match name.strip_prefix("../") {
                    Some(up) => format!("{}/{up}", base.rsplit_once('/').unwrap().0),
                    None => format!("{base}/{}", name.trim_start_matches("./")),
                };
                assert!(FILES.iter().any(|f| f.path == full), "{} imports {full}", f.path);
            }
        }
    }

    #[test]
    fn the_bundle_is_small() {
        let bytes: usize = FILES.iter().map(|f| f.text.len()).sum();
        assert!(bytes < 300 << 10, "{bytes} bytes");
    }
}
