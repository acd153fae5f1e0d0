//go:build linux

package container

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"math/big"
	"regexp"
	"strings"
)

const (
	idLength      = 64 // hex digits
	shortIDLength = 12
	namePattern   = `[a-zA-Z0-9][a-zA-Z0-9_.-]+`
)

var (
	nameRule = regexp.MustCompile(`^` + namePattern + `$`)
	idRule   = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

func newID() string {
	b := make([]byte, idLength/2)
	rand.Read(b) // never fails; see crypto/rand
	return hex.EncodeToString(b)
}

func shortID(id string) string { return id[:shortIDLength] }

func validID(id string) bool { return idRule.MatchString(id) }

func validName(name string) bool { return nameRule.MatchString(name) }

// checkName strips the slash that old clients put in front.
func checkName(name string) (string, error) {
	trimmed := strings.TrimPrefix(name, "/")
	if !validName(trimmed) {
		return "", invalid("Invalid container name (%s), only %s are allowed", name, namePattern)
	}
	return trimmed, nil
}

// madeUpName returns a name like "patient_heron"; round adds a digit once the plain ones seem to be taken.
func madeUpName(round int) string {
	name := pick(adjectives()) + "_" + pick(animals())
	if round > 5 {
		name += fmt.Sprint(round)
	}
	return name
}

func pick(words []string) string {
	n, err := rand.Int(rand.Reader, big.NewInt(int64(len(words))))
	if err != nil {
		return words[0]
	}
	return words[n.Int64()]
}

func adjectives() []string {
	return strings.Fields(`able agile amber ample apt arctic avid azure balmy bold brave breezy bright brisk calm candid
	careful cheerful chipper clear clever cosy crafty crisp curious daring deft dapper deep earnest easy eager elated fair
	fabled fearless festive fine fleet fluent fond frank fresh friendly frosty gallant gentle glad gleaming golden graceful
	grand hardy hearty honest hopeful humble jolly jovial keen kind lavish lively loyal lucid lucky mellow merry mighty mild
	modest neat nimble noble patient placid playful polite proud quick quiet rapid ready robust rosy rustic sage sharp shiny
	silent silver sincere sleek smooth snug sober solid spry stable steady stoic sturdy subtle sunny swift tidy tranquil
	trusty upbeat valiant vivid warm wily wise witty zesty`)
}

func animals() []string {
	return strings.Fields(`adder albatross alpaca antelope auk avocet badger barbet basilisk bat beaver bison bittern bobcat
	bream bunting buzzard caiman camel caracal caribou carp cheetah chough civet coati cod condor coot cormorant crane cricket
	curlew dingo dipper dolphin dormouse dove dunlin eagle egret eider elk ermine falcon ferret finch fox gannet gazelle gecko
	gibbon goshawk grebe grouse gull hare harrier hawk hedgehog heron hoopoe ibex ibis iguana impala jackdaw jaguar jay kestrel
	kingfisher kite kiwi koala lapwing lark lemur leopard linnet lynx macaw magpie mallard marmot marten merlin mink mole
	moose narwhal newt nightjar nuthatch ocelot okapi oriole osprey otter owl panda pelican penguin perch petrel pheasant pika
	pintail plover pochard puffin puma quail quokka raven redstart robin ruff salmon sandpiper seal serval shrew skua snipe
	sparrow starling stoat stork swallow swan swift tapir teal tern thrush toucan trout turtle vole wagtail walrus weasel
	whale whimbrel wigeon wombat woodcock wren yak zebra`)
}
