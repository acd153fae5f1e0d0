// Package container keeps the engine's containers: what was asked for, what lives, and what became of it.
// It is the only service of the engine that holds locks across its neighbours, which it knows by the interfaces in deps.go.
package container
