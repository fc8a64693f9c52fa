;; A filter for Dapr's middleware.http.wasm. With it, a request is answered only if the app
;; has answered it.
;;
;; Two requests that a sidecar sends to its app at the same moment may share the code
;; that sends them. Then one of them gets the answer 200 without a body, which the app never
;; sent. A sidecar takes that as success, and the event is lost.
;;
;; This module sets the status to 503 before the sidecar asks the app. The app's own answer
;; replaces the 503. Without an answer it stays, and the sidecar tries again. The request
;; gets the header "dapr-filter: answered", so that an app can see that the filter is there.
;;
;; A delivery has the content type application/cloudevents+json, and the metadata of its
;; message as headers. This module removes the headers that keep the event from the app:
;;
;; - names and values that HTTP does not allow, which the sidecar can't send
;; - "expect", to which many servers answer 417 by themselves
;; - "accept", whose value text/event-stream ends the sidecar with a panic
;;
;; The interface is https://http-wasm.io/http-handler-abi/. To build answered.wasm:
;;
;;	wat2wasm answered.wat -o answered.wasm
(module
  (import "http_handler" "enable_features" (func $enable_features (param i32) (result i32)))
  (import "http_handler" "set_status_code" (func $set_status_code (param i32)))
  (import "http_handler" "set_header_value" (func $set_header_value (param i32 i32 i32 i32 i32)))
  (import "http_handler" "get_header_names" (func $get_header_names (param i32 i32 i32) (result i64)))
  (import "http_handler" "get_header_values" (func $get_header_values (param i32 i32 i32 i32 i32) (result i64)))
  (import "http_handler" "remove_header" (func $remove_header (param i32 i32 i32)))

  ;; The names of the headers are at 1024, and the values of one at 32768, up to 31 KiB of each,
  ;; with a 0 behind each.
  (memory (export "memory") 1)
  (data (i32.const 0) "dapr-filteransweredcontent-typeexpectaccept")

  ;; valid_name reports whether a name has only characters of ordinary names: 0-9 A-Z a-z - . _
  (func $valid_name (param $at i32) (param $end i32) (result i32)
    (local $c i32)
    (loop $next
      (if (i32.eq (local.get $at) (local.get $end)) (then (return (i32.const 1))))
      (local.set $c (i32.load8_u (local.get $at)))
      (local.set $at (i32.add (local.get $at) (i32.const 1)))
      (br_if $next (i32.lt_u (i32.sub (local.get $c) (i32.const 48)) (i32.const 10)))
      (br_if $next (i32.lt_u (i32.sub (i32.or (local.get $c) (i32.const 32)) (i32.const 97)) (i32.const 26)))
      (br_if $next (i32.lt_u (i32.sub (local.get $c) (i32.const 45)) (i32.const 2)))
      (br_if $next (i32.eq (local.get $c) (i32.const 95))))
    (i32.const 0))

  ;; valid_values reports whether the values of a header have no control character but tabs.
  ;; It takes values beyond 31 KiB as valid.
  (func $valid_values (param $name i32) (param $length i32) (result i32)
    (local $c i32) (local $at i32) (local $end i32) (local $n i64) (local $ends i64)
    (local.set $n (call $get_header_values (i32.const 0) (local.get $name) (local.get $length) (i32.const 32768) (i32.const 31744)))
    (local.set $at (i32.const 32768))
    (local.set $end (i32.add (local.get $at) (i32.wrap_i64 (local.get $n))))
    (if (i32.gt_u (i32.wrap_i64 (local.get $n)) (i32.const 31744)) (then (return (i32.const 1))))
    (block $done
      (loop $next
        (br_if $done (i32.eq (local.get $at) (local.get $end)))
        (local.set $c (i32.load8_u (local.get $at)))
        (local.set $at (i32.add (local.get $at) (i32.const 1)))
        (if (i32.eqz (local.get $c))
          (then (local.set $ends (i64.add (local.get $ends) (i64.const 1))) (br $next)))
        (br_if $next (i32.eq (local.get $c) (i32.const 9)))
        (if (i32.or (i32.lt_u (local.get $c) (i32.const 32)) (i32.eq (local.get $c) (i32.const 127)))
          (then (return (i32.const 0))))
        (br $next)))
    (i64.eq (local.get $ends) (i64.shr_u (local.get $n) (i64.const 32)))) ;; no 0 is in a value

  (func $clean_delivery
    (local $name i32) (local $end i32) (local $at i32)
    (call $remove_header (i32.const 0) (i32.const 31) (i32.const 6))
    (call $remove_header (i32.const 0) (i32.const 37) (i32.const 6))
    (local.set $at (i32.wrap_i64 (call $get_header_names (i32.const 0) (i32.const 1024) (i32.const 31744))))
    (if (i32.gt_u (local.get $at) (i32.const 31744)) (then (return)))
    (local.set $end (i32.add (i32.const 1024) (local.get $at)))
    (local.set $at (i32.const 1024))
    (local.set $name (i32.const 1024))
    (block $done
      (loop $next
        (br_if $done (i32.eq (local.get $at) (local.get $end)))
        (if (i32.eqz (i32.load8_u (local.get $at)))
          (then
            (if (i32.ne (local.get $name) (local.get $at))
              (then (call $check_header (local.get $name) (local.get $at))))
            (local.set $name (i32.add (local.get $at) (i32.const 1)))))
        (local.set $at (i32.add (local.get $at) (i32.const 1)))
        (br $next))))

  (func $check_header (param $name i32) (param $end i32)
    (local $length i32)
    (local.set $length (i32.sub (local.get $end) (local.get $name)))
    (if (call $valid_name (local.get $name) (local.get $end))
      (then (if (call $valid_values (local.get $name) (local.get $length)) (then (return)))))
    (call $remove_header (i32.const 0) (local.get $name) (local.get $length)))

  (func (export "handle_request") (result i64)
    (drop (call $enable_features (i32.const 2))) ;; buffer the response, so that it can be replaced
    (call $set_status_code (i32.const 503))
    (call $set_header_value (i32.const 0) ;; of the request
      (i32.const 0) (i32.const 11) (i32.const 11) (i32.const 8))
    (i64.store (i32.const 76) (i64.const 0)) ;; clear the memory of the previous request
    (drop (call $get_header_values (i32.const 0) (i32.const 19) (i32.const 12) (i32.const 64) (i32.const 64)))
    (if (i64.eq (i64.load (i32.const 76)) (i64.const 0x65766564756f6c63)) ;; "cloudeve", behind "application/"
      (then (call $clean_delivery)))
    (i64.const 1)) ;; call the next handler

  (func (export "handle_response") (param i32 i32)))
