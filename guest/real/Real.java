// Java: threads, parallel streams, locks, what the compiler assumes and later takes back, exceptions that begin as signals,
// collectors at work. Every line that it prints has one right answer (java.expected), whatever the number of processors.

import com.sun.net.httpserver.HttpServer;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.lang.invoke.MethodHandles;
import java.lang.invoke.VarHandle;
import java.lang.ref.WeakReference;
import java.math.BigInteger;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.security.MessageDigest;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.List;
import java.util.Random;
import java.util.concurrent.*;
import java.util.concurrent.atomic.*;
import java.util.concurrent.locks.*;
import java.util.function.IntUnaryOperator;
import java.util.function.Supplier;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import java.util.stream.LongStream;
import java.util.zip.CRC32;
import java.util.zip.GZIPInputStream;
import java.util.zip.GZIPOutputStream;
import javax.crypto.Cipher;
import javax.crypto.spec.GCMParameterSpec;
import javax.crypto.spec.SecretKeySpec;

public class Real {
  static final int THREADS = 8;

  interface Job {
    void run(int me) throws Exception;
  }

  static void together(int threads, Job job) throws Exception {
    List<Thread> all = new ArrayList<>();
    AtomicReference<Throwable> trouble = new AtomicReference<>();
    for (int i = 0; i < threads; i++) {
      int me = i;
      Thread thread = new Thread(() -> {
        try {
          job.run(me);
        } catch (Throwable error) {
          trouble.set(error);
        }
      });
      all.add(thread);
      thread.start();
    }
    for (Thread thread : all) thread.join();
    if (trouble.get() != null) throw new RuntimeException(trouble.get());
  }

  static void say(String what, Object... values) {
    System.out.println(what + " " + Arrays.stream(values).map(String::valueOf).collect(Collectors.joining(" ")));
  }

  static void streams() {
    long primes = IntStream.rangeClosed(2, 300000).parallel().filter(n -> IntStream.rangeClosed(2, (int) Math.sqrt(n)).noneMatch(d -> n % d == 0)).count();
    long squares = LongStream.range(0, 1000000).parallel().map(n -> n * n).sum();
    int[] numbers = new Random(42).ints(500000).toArray();
    int[] sorted = numbers.clone();
    Arrays.parallelSort(sorted);
    long order = 0;
    for (int i = 1; i < sorted.length; i++) if (sorted[i - 1] > sorted[i]) order++;
    long before = Arrays.stream(numbers).asLongStream().sum(), after = Arrays.stream(sorted).asLongStream().sum();
    int words = IntStream.range(0, 200000).parallel().boxed().collect(Collectors.groupingByConcurrent(n -> "key" + n % 1009)).values().stream().mapToInt(List::size).sum();
    say("streams", primes, squares, order, before == after, words);
  }

  static int fib(int n) {
    return n < 2 ? n : fib(n - 1) + fib(n - 2);
  }

  static class Fib extends RecursiveTask<Integer> {
    final int n;
    Fib(int n) {
      this.n = n;
    }
    protected Integer compute() {
      if (n < 12) return fib(n);
      Fib one = new Fib(n - 1), two = new Fib(n - 2);
      one.fork();
      return two.compute() + one.join();
    }
  }

  static int plain;
  static volatile int x, y;

  static void locks() throws Exception {
    Object monitor = new Object();
    int[] counts = new int[4];
    AtomicLong atomic = new AtomicLong();
    LongAdder adder = new LongAdder();
    ReentrantLock lock = new ReentrantLock();
    StampedLock stamped = new StampedLock();
    AtomicInteger torn = new AtomicInteger();
    int[] pair = new int[2];
    together(THREADS, me -> {
      for (int i = 0; i < 20000; i++) {
        synchronized (monitor) {
          counts[0]++;
        }
        lock.lock();
        try {
          counts[1]++;
        } finally {
          lock.unlock();
        }
        atomic.incrementAndGet();
        adder.increment();
        if (i % 8 == me) {
          long stamp = stamped.writeLock();
          pair[0]++;
          pair[1]++;
          stamped.unlockWrite(stamp);
        } else {
          long stamp = stamped.tryOptimisticRead();
          int a = pair[0], b = pair[1];
          if (stamp != 0 && stamped.validate(stamp) && a != b) torn.incrementAndGet();
        }
      }
    });
    say("locks", counts[0], counts[1], atomic, adder, pair[0], pair[1], torn);

    // A store, then a load of what the other stores: with volatile variables at least one sees the other's store.
    CyclicBarrier barrier = new CyclicBarrier(2);
    int[] seen = new int[2];
    AtomicInteger neither = new AtomicInteger();
    together(2, me -> {
      for (int i = 0; i < 3000; i++) {
        barrier.await();
        if (me == 0) x = y = 0;
        barrier.await();
        if (me == 0) {
          x = 1;
          seen[0] = y;
        } else {
          y = 1;
          seen[1] = x;
        }
        barrier.await();
        if (me == 0 && seen[0] == 0 && seen[1] == 0) neither.incrementAndGet();
      }
    });
    say("order", neither);
  }

  static void queues() throws Exception {
    BlockingQueue<Integer> queue = new ArrayBlockingQueue<>(16), linked = new LinkedBlockingQueue<>(), handed = new SynchronousQueue<>();
    LongAdder sum = new LongAdder();
    together(THREADS, me -> {
      BlockingQueue<Integer> mine = List.of(queue, linked, handed, queue).get(me / 2);
      for (int i = 0; i < 2000; i++) {
        if (me % 2 == 0) mine.put(i);
        else sum.add(mine.take());
      }
    });
    CompletableFuture<Integer> future = CompletableFuture.completedFuture(0);
    for (int i = 0; i < 1000; i++) future = future.thenApplyAsync(n -> n + 1).thenCombineAsync(CompletableFuture.supplyAsync(() -> 1), Integer::sum);
    ConcurrentHashMap<Integer, Integer> map = new ConcurrentHashMap<>();
    ConcurrentSkipListMap<Integer, Integer> list = new ConcurrentSkipListMap<>();
    together(THREADS, me -> {
      for (int i = 0; i < 20000; i++) {
        map.merge(i % 997, 1, Integer::sum);
        list.merge(i % 499, 1, Integer::sum);
      }
    });
    Thread sleeper = new Thread(() -> LockSupport.park());
    sleeper.start();
    LockSupport.unpark(sleeper);
    sleeper.join();
    say("queues", sum, future.get(), map.values().stream().mapToInt(n -> n).sum(), list.values().stream().mapToInt(n -> n).sum(), list.firstKey(), list.lastKey());
  }

  static class Node {
    Node next;
    int value;
  }

  static int deep(int n) {
    return deep(n + 1) + 1;
  }

  // The machine finds these (SIGSEGV, SIGFPE, guard pages); compiled code has no checks of its own.
  static void exceptions() throws Exception {
    LongAdder nulls = new LongAdder(), zeros = new LongAdder(), bounds = new LongAdder(), casts = new LongAdder(), overflows = new LongAdder();
    together(4, me -> {
      Node[] nodes = new Node[64];
      for (int i = 0; i < 64; i++) if (i % 16 != 5) nodes[i] = new Node();
      Object[] things = {1, "two", 3L};
      for (int i = 0; i < 30000; i++) {
        try {
          nodes[i % 64].value += i;
        } catch (NullPointerException e) {
          nulls.increment();
        }
        try {
          plain = i / (i % 100);
        } catch (ArithmeticException e) {
          zeros.increment();
        }
        try {
          plain = nodes[i % 70] == null ? 0 : 1;
        } catch (ArrayIndexOutOfBoundsException e) {
          bounds.increment();
        }
        try {
          plain = (Integer) things[i % 3];
        } catch (ClassCastException e) {
          casts.increment();
        }
      }
      for (int i = 0; i < 5; i++) {
        try {
          plain = deep(0);
        } catch (StackOverflowError e) {
          overflows.increment();
        }
      }
    });
    say("exceptions", nulls, zeros, bounds, casts, overflows);
  }

  // Classes that come while others run: assumptions about who implements what are taken back, code is thrown away and patched.
  static abstract class Shape {
    abstract int area(int n);
  }

  static class Square extends Shape {
    int area(int n) {
      return n * n;
    }
  }

  static class Strip extends Shape {
    int area(int n) {
      return n;
    }
  }

  static class Line extends Shape {
    int area(int n) {
      return 0;
    }
  }

  static volatile Shape shape = new Square();

  static void deoptimization() throws Exception {
    AtomicInteger wrong = new AtomicInteger();
    List<Supplier<Shape>> kinds = List.of(Square::new, Strip::new, Line::new);
    together(4, me -> {
      for (int round = 0; round < 300; round++) {
        if (me == 0) {
          if (round % 100 == 50) shape = kinds.get(round / 100).get();
          int n = round;
          IntUnaryOperator f = round % 3 == 0 ? v -> v + n : round % 3 == 1 ? v -> v * n : v -> v - n;
          int expected = round % 3 == 0 ? 7 + n : round % 3 == 1 ? 7 * n : 7 - n;
          if (f.applyAsInt(7) != expected) wrong.incrementAndGet();
        }
        for (int i = 1; i < 2000; i++) {
          Shape now = shape;
          int area = now.area(i);
          if (area != (now instanceof Square ? i * i : now instanceof Strip ? i : 0)) wrong.incrementAndGet();
        }
      }
    });
    // Hidden classes, defined and dropped by the hundred.
    byte[] bytes = Real.class.getResourceAsStream("/Real$Strip.class").readAllBytes();
    int sum = 0;
    for (int i = 0; i < 300; i++) {
      Class<?> hidden = MethodHandles.lookup().defineHiddenClass(bytes, true).lookupClass();
      var constructor = hidden.getDeclaredConstructor();
      constructor.setAccessible(true);
      sum += ((Shape) constructor.newInstance()).area(i);
    }
    say("deoptimization", wrong, sum);
  }

  static void garbage() throws Exception {
    LongAdder sum = new LongAdder();
    AtomicInteger broken = new AtomicInteger();
    Node[] shared = new Node[256];
    VarHandle slots = MethodHandles.arrayElementVarHandle(Node[].class);
    together(THREADS, me -> {
      Random random = new Random(me);
      List<WeakReference<Node>> weak = new ArrayList<>();
      for (int i = 0; i < 3000; i++) {
        Node first = null;
        for (int n = 0; n < 50; n++) {
          Node node = new Node();
          node.value = n;
          node.next = first;
          first = node;
        }
        Node old = (Node) slots.getAndSet(shared, random.nextInt(256), first);
        int count = 0;
        for (Node node = old; node != null; node = node.next, count++) if (node.value != 49 - count) broken.incrementAndGet();
        if (count != 0 && count != 50) broken.incrementAndGet();
        if (i % 300 == 0) {
          int[] large = new int[700000]; // more than half a region of G1's
          Arrays.fill(large, me);
          sum.add(Arrays.stream(large).sum() / 700000);
          weak.add(new WeakReference<>(first));
        }
        for (WeakReference<Node> reference : weak) {
          Node node = reference.get();
          if (node != null && node.value != 49) broken.incrementAndGet();
        }
      }
    });
    System.gc();
    int left = 0;
    for (Node node : shared) for (; node != null; node = node.next) left++;
    say("garbage", sum, broken, left % 50);
  }

  static String hex(byte[] bytes) {
    return HexFormat.of().formatHex(bytes);
  }

  // Known answers of FIPS 180-4 and the GCM specification (test case 16), over and over until the compiler's own code runs.
  static void digests() throws Exception {
    String first = null;
    boolean same = true;
    String gcm = null;
    for (int i = 0; i < 3000; i++) {
      String now = hex(MessageDigest.getInstance("SHA-256").digest("abc".getBytes()));
      first = first == null ? now : first;
      same &= first.equals(now);
      Cipher cipher = Cipher.getInstance("AES/GCM/NoPadding");
      byte[] key = HexFormat.of().parseHex("feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308");
      cipher.init(Cipher.ENCRYPT_MODE, new SecretKeySpec(key, "AES"), new GCMParameterSpec(128, HexFormat.of().parseHex("cafebabefacedbaddecaf888")));
      cipher.updateAAD(HexFormat.of().parseHex("feedfacedeadbeeffeedfacedeadbeefabaddad2"));
      byte[] out = cipher.doFinal(HexFormat.of().parseHex("d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39"));
      gcm = hex(out).substring(120);
    }
    CRC32 crc = new CRC32();
    crc.update("123456789".getBytes());
    byte[] text = IntStream.range(0, 100000).mapToObj(Integer::toString).collect(Collectors.joining("\n")).getBytes();
    AtomicInteger equal = new AtomicInteger();
    together(4, me -> {
      ByteArrayOutputStream packed = new ByteArrayOutputStream();
      try (GZIPOutputStream out = new GZIPOutputStream(packed)) {
        out.write(text);
      }
      if (Arrays.equals(text, new GZIPInputStream(new ByteArrayInputStream(packed.toByteArray())).readAllBytes())) equal.incrementAndGet();
    });
    BigInteger p = BigInteger.ONE.shiftLeft(521).subtract(BigInteger.ONE), a = BigInteger.valueOf(3);
    String factorial = IntStream.rangeClosed(1, 2000).parallel().mapToObj(BigInteger::valueOf).reduce(BigInteger.ONE, BigInteger::multiply).toString();
    say("digests", first.substring(0, 16), same, gcm, Long.toHexString(crc.getValue()), equal, a.modPow(p.subtract(BigInteger.ONE), p), p.isProbablePrime(20), factorial.length());
  }

  static void server() throws Exception {
    HttpServer server = HttpServer.create(new InetSocketAddress(InetAddress.getLoopbackAddress(), 0), 0);
    ExecutorService pool = Executors.newFixedThreadPool(4);
    server.setExecutor(pool);
    server.createContext("/", exchange -> {
      byte[] answer = exchange.getRequestURI().getPath().repeat(1000).getBytes();
      exchange.sendResponseHeaders(200, answer.length);
      exchange.getResponseBody().write(answer);
      exchange.close();
    });
    server.start();
    HttpClient client = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();
    List<CompletableFuture<Integer>> answers = new ArrayList<>();
    for (int i = 0; i < 50; i++) {
      URI uri = URI.create("http://" + server.getAddress().getAddress().getHostAddress() + ":" + server.getAddress().getPort() + "/" + i);
      answers.add(client.sendAsync(HttpRequest.newBuilder(uri).build(), HttpResponse.BodyHandlers.ofByteArray()).thenApply(answer -> answer.body().length));
    }
    int sum = 0;
    for (CompletableFuture<Integer> answer : answers) sum += answer.get();
    server.stop(0);
    pool.shutdown();
    say("server", sum);
  }

  public static void main(String[] arguments) throws Exception {
    streams();
    say("fork", new ForkJoinPool(THREADS).invoke(new Fib(30)));
    locks();
    queues();
    exceptions();
    deoptimization();
    garbage();
    digests();
    server();
    System.exit(0);
  }
}
