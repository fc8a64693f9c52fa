;; A filter for the API of the sidecars that `make run` starts: a request with the header
;; Origin gets 403. A browser puts that header on every POST of a page, and no page has
;; business with a sidecar. See pages/pages.yaml.
;;
;; The interface is https://http-wasm.io/http-handler-abi/. To build pages.wasm:
;;
;;	wat2wasm pages.wat -o pages.wasm
(module
  (import "http_handler" "get_header_values" (func $get_header_values (param i32 i32 i32 i32 i32) (result i64)))
  (import "http_handler" "set_status_code" (func $set_status_code (param i32)))
  (import "http_handler" "write_body" (func $write_body (param i32 i32 i32)))

  (memory (export "memory") 1)
  (data (i32.const 0) "origin{\"error\":\"a page in a browser may not use this sidecar\"}")

  (func (export "handle_request") (result i64)
    (if (i64.eqz (call $get_header_values ;; how many there are, and how long; none is read
          (i32.const 0) (i32.const 0) (i32.const 6) (i32.const 0) (i32.const 0)))
      (then (return (i64.const 1)))) ;; call the next handler
    (call $set_status_code (i32.const 403))
    (call $write_body (i32.const 1) (i32.const 6) (i32.const 56))
    (i64.const 0))

  (func (export "handle_response") (param i32 i32)))
