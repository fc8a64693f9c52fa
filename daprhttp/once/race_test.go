//go:build race

package once

func init() { raceDetector = true }
