// Package api serves the Docker Engine HTTP API as one table of routes over the services' interfaces.
package api
