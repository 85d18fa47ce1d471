// Many goroutines at work on several processors, with known answers; and imports that make the library large to build.
package main

import (
	"bytes"
	"compress/flate"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"go/parser"
	"go/token"
	"math/big"
	"net/http"
	"net/http/httptest"
	"regexp"
	"runtime"
	"sort"
	"sync"
	"sync/atomic"
	"text/template"
	"time"
)

// Digests of numbers, by workers that take them from a channel.
func digests(n int) string {
	numbers, results := make(chan int), make([]string, n)
	var workers sync.WaitGroup
	for i := 0; i < 8; i++ {
		workers.Add(1)
		go func() {
			defer workers.Done()
			for number := range numbers {
				sum := sha256.Sum256([]byte(fmt.Sprint(number)))
				for j := 0; j < 100; j++ {
					sum = sha256.Sum256(sum[:])
				}
				results[number] = fmt.Sprintf("%x", sum[:4])
			}
		}()
	}
	for i := 0; i < n; i++ {
		numbers <- i
	}
	close(numbers)
	workers.Wait()
	total := sha256.New()
	for _, result := range results {
		total.Write([]byte(result))
	}
	return fmt.Sprintf("%x", total.Sum(nil)[:8])
}

// A counter under a lock and one that is atomic, with garbage made all the time.
func counters() string {
	var lock sync.Mutex
	var workers sync.WaitGroup
	var plain, garbage int
	var number int64
	for i := 0; i < 50; i++ {
		workers.Add(1)
		go func() {
			defer workers.Done()
			for j := 0; j < 2000; j++ {
				rubbish := make([]byte, 100+j%1000)
				lock.Lock()
				plain++
				garbage += len(rubbish) & 1
				lock.Unlock()
				atomic.AddInt64(&number, 1)
				if j%100 == 0 {
					runtime.Gosched()
				}
			}
		}()
	}
	workers.Wait()
	return fmt.Sprint(plain, number, garbage)
}

// A server and its clients, over the loopback device.
func requests() string {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		json.NewEncoder(w).Encode(map[string]string{"path": r.URL.Path})
	}))
	defer server.Close()
	var clients sync.WaitGroup
	var right int64
	for i := 0; i < 20; i++ {
		clients.Add(1)
		go func(i int) {
			defer clients.Done()
			answer, err := http.Get(fmt.Sprintf("%s/%d", server.URL, i))
			if err != nil {
				return
			}
			defer answer.Body.Close()
			var value map[string]string
			if json.NewDecoder(answer.Body).Decode(&value) == nil && value["path"] == fmt.Sprintf("/%d", i) {
				atomic.AddInt64(&right, 1)
			}
		}(i)
	}
	clients.Wait()
	return fmt.Sprint(right)
}

func texts() string {
	var packed, out bytes.Buffer
	writer, _ := flate.NewWriter(&packed, 9)
	for i := 0; i < 20000; i++ {
		fmt.Fprintf(writer, "%d squared is %d\n", i, i*i)
	}
	writer.Close()
	words := regexp.MustCompile(`\w+`).FindAllString("the quick brown fox jumps over the lazy dog", -1)
	sort.Strings(words)
	template.Must(template.New("").Parse("{{range .}}{{.}} {{end}}")).Execute(&out, words)
	_, err := parser.ParseExpr("a + b*(c - 1)")
	token.NewFileSet()
	factorial := new(big.Int).MulRange(1, 1000).String()
	return fmt.Sprintf("%x %s%v %d", sha256.Sum256(packed.Bytes()), out.String(), err, len(factorial))
}

// What the processor finds (nil pointers, divisions by zero) becomes a panic in the goroutine that did it.
func panics() string {
	var workers sync.WaitGroup
	var nils, divisions, bounds int64
	for i := 0; i < 8; i++ {
		workers.Add(1)
		go func() {
			defer workers.Done()
			try := func(count *int64, f func()) {
				defer func() {
					if recover() != nil {
						atomic.AddInt64(count, 1)
					}
				}()
				f()
			}
			var nothing *struct{ pad, value int }
			zero, list := 0, make([]int, 4)
			for j := 0; j < 500; j++ {
				try(&nils, func() { nothing.value++ })
				try(&divisions, func() { list[0] = j / zero })
				try(&bounds, func() { list[j%5]++ })
			}
		}()
	}
	workers.Wait()
	return fmt.Sprint(nils, divisions, bounds)
}

// Loops without a call in them: the runtime stops them by signals, for the others to run and for the collector.
func preemption() string {
	var stop int32
	var workers sync.WaitGroup
	for i := 0; i < 8; i++ {
		workers.Add(1)
		go func() {
			defer workers.Done()
			for atomic.LoadInt32(&stop) == 0 {
			}
		}()
	}
	collected := make(chan bool, 20)
	for i := 0; i < 20; i++ {
		thing := make([]byte, 1<<16)
		runtime.SetFinalizer(&thing[0], func(*byte) { collected <- true })
	}
	ticks, count := time.NewTicker(time.Millisecond), 0
	for collections := 0; count < 20; {
		select {
		case <-ticks.C:
			if collections++; collections%10 == 1 {
				runtime.GC()
			}
		case <-collected:
			count++
		}
	}
	atomic.StoreInt32(&stop, 1)
	workers.Wait()
	return fmt.Sprint(count)
}

// Numbers through a chain of filters, one goroutine for each prime; maps of many sizes, each grown, read and emptied.
func sieve() string {
	numbers, last := make(chan int), 0
	go func(out chan<- int) {
		for i := 2; ; i++ {
			out <- i
		}
	}(numbers)
	for i := 0; i < 500; i++ {
		prime := <-numbers
		next := make(chan int)
		go func(in <-chan int, out chan<- int) {
			for number := range in {
				if number%prime != 0 {
					out <- number
				}
			}
		}(numbers, next)
		numbers, last = next, prime
	}
	var total int64
	var workers sync.WaitGroup
	for i := 1; i <= 8; i++ {
		workers.Add(1)
		go func(size int) {
			defer workers.Done()
			table := map[string]int{}
			for j := 0; j < size; j++ {
				table[fmt.Sprint(j*7919%size)] += j
			}
			for key, value := range table {
				atomic.AddInt64(&total, int64(value))
				delete(table, key)
			}
			atomic.AddInt64(&total, int64(len(table)))
		}(i * 3000)
	}
	workers.Wait()
	return fmt.Sprint(last, total)
}

func main() {
	fmt.Println("panics", panics())
	fmt.Println("preemption", preemption())
	fmt.Println("sieve", sieve())
	fmt.Println("digests", digests(2000))
	fmt.Println("counters", counters())
	fmt.Println("requests", requests())
	fmt.Println("texts", texts())
}
