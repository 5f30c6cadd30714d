//! The status page: one document without anything from elsewhere, the same for everybody. What it shows it fetches from
//! [`/status`](super::status) and puts in place as text.
//!
//! The content security policy lets nothing run but the script in the document and nothing be fetched but from where the
//! document came; with trusted types even that script can turn no string into markup. Script and style are named by a
//! nonce of each answer: the document holds no word of anybody else's who could know it.

use axum::{
    extract::State,
    http::{HeaderName, header},
    response::{IntoResponse, Response},
};

use super::HttpState;

const DOCUMENT: &str = include_str!("page/index.html");
/// What takes the place of which mark in the document.
const PIECES: [(&str, &str); 6] = [
    ("/* style.css */", include_str!("page/style.css")),
    ("/* format.js */", include_str!("page/format.js")),
    ("/* timeline.js */", include_str!("page/timeline.js")),
    ("/* health.js */", include_str!("page/health.js")),
    ("/* partitions.js */", include_str!("page/partitions.js")),
    ("/* script.js */", include_str!("page/script.js")),
];
const NONCE: &str = "{nonce}";

/// The page.
pub(super) async fn page(State(state): State<HttpState>) -> Response {
    let nonce = state.clock.new_uuid().simple().to_string();
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src data:; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    );
    let headers: [(HeaderName, &str); 6] = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, &policy),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (headers, document(&nonce)).into_response()
}

fn document(nonce: &str) -> String {
    let document = DOCUMENT.replace(NONCE, nonce);
    PIECES.iter().fold(document, |document, (mark, piece)| {
        document.replacen(mark, piece, 1)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_is_whole_and_needs_nothing_from_elsewhere() {
        let document = document("0123");
        for (mark, piece) in PIECES {
            assert!(
                DOCUMENT.contains(mark),
                "the document has no place for {mark}"
            );
            assert!(document.contains(piece), "{mark} is not in the document");
        }
        assert!(!document.contains(NONCE));
        assert_eq!(document.matches("nonce=\"0123\"").count(), 2);
        // The namespace of SVG is a name, and nothing is fetched from there.
        let addresses = document.replace("http://www.w3.org/2000/svg", "");
        for elsewhere in ["http://", "https://", "url(", "@import", "src="] {
            assert!(!addresses.contains(elsewhere), "{elsewhere}");
        }
    }

    #[test]
    fn nothing_is_put_into_the_page_as_markup() {
        for (mark, piece) in PIECES {
            for markup in [
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "document.write",
                "eval(",
            ] {
                assert!(!piece.contains(markup), "{markup} in {mark}");
            }
        }
    }
}
