;; A filter for Dapr's middleware.http.wasm: a request counts as answered only if the app
;; has answered it.
;;
;; Two requests that a sidecar sends to its app at the same moment may share the code
;; that sends them. Then one of them is answered 200 without a body, which nobody sent.
;; For an event that is a success, and the event is lost.
;;
;; This module sets the status to 503 before the sidecar asks the app. The app's own answer
;; replaces the 503. Without an answer it stays, and the sidecar tries again. The request
;; gets the header "dapr-filter: answered", so that an app can see that the filter is there.
;;
;; From a delivery, which has the content type application/cloudevents+json, it takes two headers
;; that the publisher may have set as metadata: "expect", to which many HTTP servers answer 417
;; by themselves, and "accept", whose value text/event-stream ends the sidecar with a panic.
;;
;; The interface is https://http-wasm.io/http-handler-abi/. To build answered.wasm:
;;
;;	wat2wasm answered.wat -o answered.wasm
(module
  (import "http_handler" "enable_features" (func $enable_features (param i32) (result i32)))
  (import "http_handler" "set_status_code" (func $set_status_code (param i32)))
  (import "http_handler" "set_header_value" (func $set_header_value (param i32 i32 i32 i32 i32)))
  (import "http_handler" "get_header_values" (func $get_header_values (param i32 i32 i32 i32 i32) (result i64)))
  (import "http_handler" "remove_header" (func $remove_header (param i32 i32 i32)))

  (memory (export "memory") 1)
  (data (i32.const 0) "dapr-filteransweredcontent-typeexpectaccept")

  (func (export "handle_request") (result i64)
    (drop (call $enable_features (i32.const 2))) ;; buffer the response, so that it can be replaced
    (call $set_status_code (i32.const 503))
    (call $set_header_value (i32.const 0) ;; of the request
      (i32.const 0) (i32.const 11) (i32.const 11) (i32.const 8))
    (i64.store (i32.const 76) (i64.const 0)) ;; what the request before has left
    (drop (call $get_header_values (i32.const 0) (i32.const 19) (i32.const 12) (i32.const 64) (i32.const 64)))
    (if (i64.eq (i64.load (i32.const 76)) (i64.const 0x65766564756f6c63)) ;; "cloudeve", behind "application/"
      (then
        (call $remove_header (i32.const 0) (i32.const 31) (i32.const 6))
        (call $remove_header (i32.const 0) (i32.const 37) (i32.const 6))))
    (i64.const 1)) ;; call the next handler

  (func (export "handle_response") (param i32 i32)))
