package api

// access says what a request may do, whoever sends it.
type access string

const (
	observe access = "observe" // changes nothing
	control access = "control" // changes something, or runs something
)

// route is one line of the API. Paths are without the version; see pattern for their variables.
type route struct {
	method string
	path   string
	since  version // oldest API version that has it
	access access
	handle func(*call) error
	note   string // what is refused and why, for the table of what is covered; empty when it is served
}

// routes is the whole API. The first that matches is taken.
func routes() []route {
	return []route{
		{"GET", "/_ping", oldest, observe, ping, ""},
		{"HEAD", "/_ping", oldest, observe, ping, ""},
		{"GET", "/version", oldest, observe, systemVersion, ""},
		{"GET", "/info", oldest, observe, systemInfo, ""},
		{"GET", "/events", oldest, observe, systemEvents, ""},
		{"GET", "/system/df", 25, observe, systemDiskUsage, ""},
		{"POST", "/auth", oldest, observe, systemAuth, ""},

		{"GET", "/containers/json", oldest, observe, containerList, ""},
		{"POST", "/containers/create", oldest, control, containerCreate, ""},
		{"POST", "/containers/prune", 25, control, containerPrune, ""},
		{"GET", "/containers/{name...}/json", oldest, observe, containerInspect, ""},
		{"GET", "/containers/{name...}/top", oldest, observe, containerTop, ""},
		{"GET", "/containers/{name...}/logs", oldest, observe, containerLogs, ""},
		{"GET", "/containers/{name...}/changes", oldest, observe, containerChanges, ""},
		{"GET", "/containers/{name...}/export", oldest, observe, containerExport, ""},
		{"GET", "/containers/{name...}/stats", oldest, observe, containerStats, ""},
		{"GET", "/containers/{name...}/attach/ws", oldest, control, containerAttachWS, ""},
		{"HEAD", "/containers/{name...}/archive", oldest, observe, archiveStat, ""},
		{"GET", "/containers/{name...}/archive", oldest, observe, archiveGet, ""},
		{"PUT", "/containers/{name...}/archive", oldest, control, archivePut, ""},
		{"POST", "/containers/{name...}/start", oldest, control, containerStart, ""},
		{"POST", "/containers/{name...}/stop", oldest, control, containerStop, ""},
		{"POST", "/containers/{name...}/restart", oldest, control, containerRestart, ""},
		{"POST", "/containers/{name...}/kill", oldest, control, containerKill, ""},
		{"POST", "/containers/{name...}/pause", oldest, control, containerPause, ""},
		{"POST", "/containers/{name...}/unpause", oldest, control, containerUnpause, ""},
		{"POST", "/containers/{name...}/wait", oldest, observe, containerWait, ""},
		{"POST", "/containers/{name...}/resize", oldest, control, containerResize, ""},
		{"POST", "/containers/{name...}/attach", oldest, control, containerAttach, ""},
		{"POST", "/containers/{name...}/rename", oldest, control, containerRename, ""},
		{"POST", "/containers/{name...}/update", oldest, control, containerUpdate, ""},
		{"POST", "/containers/{name...}/exec", oldest, control, execCreate, ""},
		{"DELETE", "/containers/{name...}", oldest, control, containerRemove, ""},
		{"POST", "/commit", oldest, control, containerCommit, ""},
		{"GET", "/exec/{id}/json", oldest, observe, execInspect, ""},
		{"POST", "/exec/{id}/start", oldest, control, execStart, ""},
		{"POST", "/exec/{id}/resize", oldest, control, execResize, ""},
		refused("GET", "/containers/{name}/checkpoints", observe, "checkpoints"),
		refused("POST", "/containers/{name}/checkpoints", control, "checkpoints"),
		refused("DELETE", "/containers/{name}/checkpoints/{checkpoint}", control, "checkpoints"),

		{"GET", "/images/json", oldest, observe, imageList, ""},
		{"GET", "/images/get", oldest, observe, imageSave, ""},
		refused("GET", "/images/search", observe, "searching a registry",
			"search at https://hub.docker.com/search, or on the pages of the registry in question"),
		{"POST", "/images/create", oldest, control, imageCreate, ""},
		{"POST", "/images/load", oldest, control, imageLoad, ""},
		{"POST", "/images/prune", 25, control, imagePrune, ""},
		{"GET", "/images/{name...}/json", oldest, observe, imageInspect, ""},
		{"GET", "/images/{name...}/history", oldest, observe, imageHistory, ""},
		{"GET", "/images/{name...}/get", oldest, observe, imageSave, ""},
		refused("GET", "/images/{name...}/attestations", observe, "image attestations"),
		{"POST", "/images/{name...}/push", oldest, control, imagePush, ""},
		{"POST", "/images/{name...}/tag", oldest, control, imageTag, ""},
		{"DELETE", "/images/{name...}", oldest, control, imageRemove, ""},
		refused("GET", "/distribution/{name...}/json", observe, "inspecting an image in a registry"),

		{"GET", "/networks", oldest, observe, networkList, ""},
		{"GET", "/networks/", oldest, observe, networkList, ""},
		{"POST", "/networks/create", oldest, control, networkCreate, ""},
		{"POST", "/networks/prune", 25, control, networkPrune, ""},
		{"GET", "/networks/{id...}", oldest, observe, networkInspect, ""},
		{"POST", "/networks/{id...}/connect", oldest, control, networkConnect, ""},
		{"POST", "/networks/{id...}/disconnect", oldest, control, networkDisconnect, ""},
		{"DELETE", "/networks/{id...}", oldest, control, networkRemove, ""},

		{"GET", "/volumes", oldest, observe, volumeList, ""},
		{"POST", "/volumes/create", oldest, control, volumeCreate, ""},
		{"POST", "/volumes/prune", 25, control, volumePrune, ""},
		{"GET", "/volumes/{name...}", oldest, observe, volumeInspect, ""},
		noSwarm("PUT", "/volumes/{name...}", control),
		{"DELETE", "/volumes/{name...}", oldest, control, volumeRemove, ""},

		refused("POST", "/build", control, "building images"),
		refused("POST", "/build/cancel", control, "building images"),
		{"POST", "/build/prune", 31, control, buildPrune, "there is no build cache: it is always empty"},
		refused("POST", "/session", control, "BuildKit sessions"),
		refused("POST", "/grpc", control, "BuildKit's API"),

		{"GET", "/plugins", 25, observe, pluginList, "there are no plugins: the list is always empty"},
		refused("GET", "/plugins/privileges", observe, "managed plugins"),
		refused("GET", "/plugins/{name...}/json", observe, "managed plugins"),
		refused("POST", "/plugins/create", control, "managed plugins"),
		refused("POST", "/plugins/pull", control, "managed plugins"),
		refused("POST", "/plugins/{name...}/enable", control, "managed plugins"),
		refused("POST", "/plugins/{name...}/disable", control, "managed plugins"),
		refused("POST", "/plugins/{name...}/push", control, "managed plugins"),
		refused("POST", "/plugins/{name...}/set", control, "managed plugins"),
		refused("POST", "/plugins/{name...}/upgrade", control, "managed plugins"),
		refused("DELETE", "/plugins/{name...}", control, "managed plugins"),

		refused("POST", "/swarm/init", control, "swarm mode"),
		refused("POST", "/swarm/join", control, "swarm mode"),
		noSwarm("GET", "/swarm", observe),
		noSwarm("GET", "/swarm/unlockkey", observe),
		noSwarm("POST", "/swarm/leave", control),
		noSwarm("POST", "/swarm/update", control),
		noSwarm("POST", "/swarm/unlock", control),
		noSwarm("GET", "/services", observe),
		noSwarm("GET", "/services/{id}", observe),
		noSwarm("GET", "/services/{id}/logs", observe),
		noSwarm("POST", "/services/create", control),
		noSwarm("POST", "/services/{id}/update", control),
		noSwarm("DELETE", "/services/{id}", control),
		noSwarm("GET", "/nodes", observe),
		noSwarm("GET", "/nodes/{id}", observe),
		noSwarm("POST", "/nodes/{id}/update", control),
		noSwarm("DELETE", "/nodes/{id}", control),
		noSwarm("GET", "/tasks", observe),
		noSwarm("GET", "/tasks/{id}", observe),
		noSwarm("GET", "/tasks/{id}/logs", observe),
		noSwarm("GET", "/secrets", observe),
		noSwarm("GET", "/secrets/{id}", observe),
		noSwarm("POST", "/secrets/create", control),
		noSwarm("POST", "/secrets/{id}/update", control),
		noSwarm("DELETE", "/secrets/{id}", control),
		noSwarm("GET", "/configs", observe),
		noSwarm("GET", "/configs/{id}", observe),
		noSwarm("POST", "/configs/create", control),
		noSwarm("POST", "/configs/{id}/update", control),
		noSwarm("DELETE", "/configs/{id}", control),
	}
}
