// A hub on gorilla/websocket, after the library's chat example: a goroutine for the hub, a read
// pump and a write pump for each client, a channel of 256 messages between hub and client; a client
// whose channel is full is dropped. Where the example falls short of relayd's job we chose what is
// fastest: poses are encoded and framed once (PreparedMessage).
//
//	PORT=8080 DATABASE_URL=postgresql://... hub
package main

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"log"
	"net/http"
	"os"
	"strings"
	"sync"

	"github.com/gorilla/websocket"
	"github.com/lib/pq"
)

var upgrader = websocket.Upgrader{
	ReadBufferSize:  1024,
	WriteBufferSize: 1024,
	CheckOrigin:     func(*http.Request) bool { return true },
}

type pose struct {
	X *float64 `json:"x"`
	Y *float64 `json:"y"`
	Z *float64 `json:"z"`
}

// client is one connection.
type client struct {
	group string
	conn  *websocket.Conn
	send  chan *websocket.PreparedMessage
}

type message struct {
	group   string
	payload *websocket.PreparedMessage
}

// hub keeps the groups; only its goroutine touches them.
type hub struct {
	groups     map[string]map[*client]bool
	broadcast  chan message
	register   chan *client
	unregister chan *client
}

func newHub() *hub {
	return &hub{
		groups:     make(map[string]map[*client]bool),
		broadcast:  make(chan message),
		register:   make(chan *client),
		unregister: make(chan *client),
	}
}

func (h *hub) drop(c *client) {
	members := h.groups[c.group]
	if members[c] {
		delete(members, c)
		close(c.send)
		if len(members) == 0 {
			delete(h.groups, c.group)
		}
	}
}

func (h *hub) run() {
	for {
		select {
		case c := <-h.register:
			if h.groups[c.group] == nil {
				h.groups[c.group] = make(map[*client]bool)
			}
			h.groups[c.group][c] = true
		case c := <-h.unregister:
			h.drop(c)
		case m := <-h.broadcast:
			for c := range h.groups[m.group] {
				select {
				case c.send <- m.payload:
				default:
					h.drop(c)
				}
			}
		}
	}
}

func prepared(value interface{}) *websocket.PreparedMessage {
	payload, err := json.Marshal(value)
	if err != nil {
		log.Panic(err)
	}
	message, err := websocket.NewPreparedMessage(websocket.TextMessage, payload)
	if err != nil {
		log.Panic(err)
	}
	return message
}

var badPose = prepared(map[string]string{
	"error": "bad_pose", "message": "The members x, y and z must be numbers or null.",
})

func (c *client) readPump(h *hub) {
	defer func() {
		h.unregister <- c
		c.conn.Close()
	}()
	c.conn.SetReadLimit(65536)
	for {
		_, payload, err := c.conn.ReadMessage()
		if err != nil {
			return
		}
		if len(bytes.TrimSpace(payload)) == 0 {
			continue
		}
		var p pose
		if json.Unmarshal(payload, &p) != nil {
			c.send <- badPose
			continue
		}
		h.broadcast <- message{c.group, prepared(p)}
	}
}

func (c *client) writePump() {
	defer c.conn.Close()
	for m := range c.send {
		if c.conn.WritePreparedMessage(m) != nil {
			return
		}
	}
	c.conn.WriteMessage(websocket.CloseMessage, nil)
}

func (h *hub) camera(w http.ResponseWriter, r *http.Request) {
	conn, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return
	}
	group := strings.TrimPrefix(strings.TrimSuffix(r.URL.Path, "/"), "/ws/camera")
	c := &client{group: group, conn: conn, send: make(chan *websocket.PreparedMessage, 256)}
	h.register <- c
	go c.writePump()
	go c.readPump(h)
}

// headsets are the Unity sides, by UUID; writes to a connection hold its lock.
type headset struct {
	sync.Mutex
	conn *websocket.Conn
}

type pairing struct {
	sync.RWMutex
	headsets map[string]*headset
	quizzes  *sql.Stmt
	action   *sql.Stmt
}

func newPairing(url string) *pairing {
	p := &pairing{headsets: make(map[string]*headset)}
	if url == "" {
		return p
	}
	db, err := sql.Open("postgres", url)
	if err != nil {
		log.Fatal(err)
	}
	db.SetMaxOpenConns(8)
	db.SetMaxIdleConns(8)
	p.quizzes, err = db.Prepare(
		"SELECT ARRAY(SELECT id FROM quizzes WHERE difficulty = $1 ORDER BY random() LIMIT 3)")
	if err != nil {
		log.Fatal(err)
	}
	p.action, err = db.Prepare(
		"SELECT id FROM actions WHERE difficulty = $1 ORDER BY random() LIMIT 1")
	if err != nil {
		log.Fatal(err)
	}
	return p
}

func (p *pairing) unity(w http.ResponseWriter, r *http.Request) {
	id := strings.ToLower(strings.TrimPrefix(r.URL.Path, "/ws/difficulty/unity/"))
	conn, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return
	}
	own := &headset{conn: conn}
	p.Lock()
	p.headsets[id] = own
	p.Unlock()
	go func() {
		defer conn.Close()
		for {
			if _, _, err := conn.ReadMessage(); err != nil {
				break
			}
		}
		p.Lock()
		if p.headsets[id] == own {
			delete(p.headsets, id)
		}
		p.Unlock()
	}()
}

type question struct {
	Difficulty *int `json:"difficulty"`
}

type draw struct {
	QuizID   []int64 `json:"quiz_id"`
	ActionID int64   `json:"action_id"`
}

type receipt struct {
	Status  string `json:"status"`
	Error   string `json:"error,omitempty"`
	Message string `json:"message,omitempty"`
}

func (p *pairing) answer(id string, payload []byte) receipt {
	var asked question
	if json.Unmarshal(payload, &asked) != nil || asked.Difficulty == nil {
		return receipt{"error", "bad_difficulty", "The member difficulty must be an integer."}
	}
	var drawn draw
	err := p.quizzes.QueryRow(*asked.Difficulty).Scan(pq.Array(&drawn.QuizID))
	if err == nil {
		err = p.action.QueryRow(*asked.Difficulty).Scan(&drawn.ActionID)
	}
	if err == sql.ErrNoRows || err == nil && len(drawn.QuizID) == 0 {
		return receipt{"error", "no_content", "There is nothing of this difficulty."}
	}
	if err != nil {
		return receipt{"error", "database_unavailable", "The database cannot be reached."}
	}
	p.RLock()
	unity := p.headsets[id]
	p.RUnlock()
	if unity == nil {
		return receipt{"error", "no_unity", "The headset has left."}
	}
	unity.Lock()
	defer unity.Unlock()
	if unity.conn.WriteJSON(drawn) != nil {
		return receipt{"error", "no_unity", "The headset has left."}
	}
	return receipt{Status: "received"}
}

func (p *pairing) android(w http.ResponseWriter, r *http.Request) {
	id := strings.ToLower(strings.TrimPrefix(r.URL.Path, "/ws/difficulty/android/"))
	p.RLock()
	present := p.headsets[id] != nil
	p.RUnlock()
	if !present {
		http.Error(w, `{"error": "no_unity"}`, http.StatusBadRequest)
		return
	}
	conn, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return
	}
	go func() {
		defer conn.Close()
		for {
			_, payload, err := conn.ReadMessage()
			if err != nil || conn.WriteJSON(p.answer(id, payload)) != nil {
				return
			}
		}
	}()
}

func main() {
	h := newHub()
	go h.run()
	p := newPairing(os.Getenv("DATABASE_URL"))
	http.HandleFunc("/ws/camera", h.camera)
	http.HandleFunc("/ws/camera/", h.camera)
	http.HandleFunc("/ws/difficulty/unity/", p.unity)
	http.HandleFunc("/ws/difficulty/android/", p.android)
	log.Fatal(http.ListenAndServe("127.0.0.1:"+os.Getenv("PORT"), nil))
}
