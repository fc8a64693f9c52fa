// Package harness is what the end-to-end tests share: a running system of services,
// sidecars and servers, a load of orders, and faults of processes and of the network. It
// starts processes with package stack, and reports to a [testing.T].
//
// [Prepare] comes first, in TestMain. Then [Start] starts the system of one test.
package harness
