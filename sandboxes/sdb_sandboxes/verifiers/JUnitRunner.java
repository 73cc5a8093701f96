import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Set;
import org.junit.platform.engine.TestExecutionResult;
import org.junit.platform.engine.discovery.ClassNameFilter;
import org.junit.platform.engine.discovery.DiscoverySelectors;
import org.junit.platform.engine.support.descriptor.MethodSource;
import org.junit.platform.launcher.LauncherDiscoveryRequest;
import org.junit.platform.launcher.TestExecutionListener;
import org.junit.platform.launcher.TestIdentifier;
import org.junit.platform.launcher.core.LauncherDiscoveryRequestBuilder;
import org.junit.platform.launcher.core.LauncherFactory;

/** Runs every JUnit test of the trusted files; a line of its own says how each one ended. */
public class JUnitRunner implements TestExecutionListener {
    private boolean isPassed = true;

    public static void main(String[] arguments) throws IOException {
        // A program may bring tests of its own: they are not run.
        String trusted = String.join("|", Files.readAllLines(Path.of("_trusted.txt")));
        JUnitRunner runner = new JUnitRunner();
        LauncherDiscoveryRequest request = LauncherDiscoveryRequestBuilder.request()
            .selectors(DiscoverySelectors.selectClasspathRoots(Set.of(Path.of("."))))
            .filters(ClassNameFilter.includeClassNamePatterns("(.*\\.)?(" + trusted + ")(\\$.*)?"))
            .build();
        LauncherFactory.create().execute(request, runner);
        System.exit(runner.isPassed ? 0 : 1);
    }

    @Override
    public void executionSkipped(TestIdentifier test, String reason) {
        tell(test, "SKIP");
    }

    @Override
    public void executionFinished(TestIdentifier test, TestExecutionResult result) {
        result.getThrowable().ifPresent(JUnitRunner::show);
        boolean isSuccess = result.getStatus() == TestExecutionResult.Status.SUCCESSFUL;
        isPassed &= isSuccess;
        if (test.isTest()) {
            tell(test, isSuccess ? "PASS" : "FAIL");
        }
    }

    /** Without the frames of libraries. */
    private static void show(Throwable thrown) {
        System.out.println(thrown);
        for (StackTraceElement frame : thrown.getStackTrace()) {
            if (!frame.getClassName().matches("(java|jdk|org)\\..*|JUnitRunner.*")) {
                System.out.println("\tat " + frame);
            }
        }
    }

    private static void tell(TestIdentifier test, String outcome) {
        String name = test.getSource()
            .filter(source -> source instanceof MethodSource)
            .map(source -> ((MethodSource) source).getMethodName())
            .orElse(test.getDisplayName());
        System.out.println("\n--- " + outcome + ": " + name);
    }
}
