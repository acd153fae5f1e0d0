// Package images makes small OCI images in memory and serves or archives them, so that tests and the demo need no internet.
//
// [Busybox] builds busybox:1.24 from the host's static busybox (Debian's busybox-static). [Serve] runs a registry on a
// loopback port; it answers for "library/busybox" and can thus be the mirror of docker.io:
//
//	reg, err := images.Serve(images.RegistryOptions{})
//	defer reg.Close()
//	img, err := images.Busybox()
//	err = reg.Add("library/busybox:1.24", img)
//	// reg.Host() is 127.0.0.1:PORT, reg.URL() http://127.0.0.1:PORT
//
// [Build] makes any other image of [Layer]s, also ones that no sane tool would make.
package images
