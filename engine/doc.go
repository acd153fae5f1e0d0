// Package engine is the wiring of the engine's services: it opens them in order, gives each what it needs of the others, serves
// the API over them and takes them down again. Containers go on without it.
package engine
